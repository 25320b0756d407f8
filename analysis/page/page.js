"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // which front is shown
  const chosen = (name) => one(`input[name="${name}"]:checked`)?.value;
  const showView = () => all(".view").forEach((view) => {
    view.classList.toggle("on", view.dataset.quality === chosen("quality") && view.dataset.cost === chosen("cost"));
  });
  all('input[name="quality"], input[name="cost"]').forEach((input) => input.addEventListener("change", showView));
  showView();

  // which series are shown
  all("[data-toggle]").forEach((button) => button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    all(`.fronts [data-series="${button.dataset.toggle}"]`).forEach((series) => series.classList.toggle("off", !shown));
  }));

  // tips: the nearest point to the pointer, or what lies under it
  const tip = one("#tip");
  all(".chart title").forEach((title) => {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  });
  let near = null;
  const hide = () => { tip.classList.remove("on"); near?.classList.remove("near"); near = null; };
  const tell = (element, x, y) => {
    if (near !== element) { near?.classList.remove("near"); near = element; element.classList.add("near"); }
    tip.textContent = element.dataset.tip;
    tip.classList.add("on");
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${y - height - 14 > 8 ? y - height - 14 : y + 18}px`;
  };
  const nearest = (chart, x, y) => {
    let best = null, least = 26 ** 2;
    for (const mark of all(".mark[data-tip]", chart)) {
      const box = mark.getBoundingClientRect();
      if (!box.width) continue;
      const distance = (box.x + box.width / 2 - x) ** 2 + (box.y + box.height / 2 - y) ** 2;
      if (distance < least) [best, least] = [mark, distance];
    }
    return best;
  };
  all(".chart").forEach((chart) => {
    const found = (event) => nearest(chart, event.clientX, event.clientY) ?? event.target.closest("[data-tip]");
    chart.addEventListener("pointermove", (event) => {
      const element = found(event);
      if (element) tell(element, event.clientX, event.clientY); else hide();
    });
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("click", (event) => {
      const element = found(event);
      if (!element) return;
      tell(element, event.clientX, event.clientY);
      if (element.dataset.key) choose(element.dataset.key);
    });
  });
  addEventListener("scroll", hide, { passive: true });

  // by keyboard a chart is one stop: left and right go from point to point, Enter shows a point's assignment, Escape hides what is told
  all(".chart").filter((chart) => one(".mark[data-tip]", chart)).forEach((chart) => {
    const left = (mark) => mark.getBoundingClientRect().x;
    chart.setAttribute("tabindex", "0");
    chart.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        const marks = all(".mark[data-tip]", chart).filter((mark) => mark.getBoundingClientRect().width).sort((a, b) => left(a) - left(b));
        const at = marks.indexOf(near);
        const mark = marks.at(at >= 0 ? (at + step) % marks.length : step > 0 ? 0 : -1);
        if (!mark) return;
        const box = mark.getBoundingClientRect();
        tell(mark, box.right, box.top);
        event.preventDefault();
      } else if (event.key === "Escape") hide();
      else if (event.key === "Enter" && chart.contains(near) && near.dataset.key) choose(near.dataset.key);
    });
    chart.addEventListener("blur", hide);
  });

  // tables that sort
  all("table.sortable").forEach((table) => all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const difference = Number(x) - Number(y);
        return (up ? 1 : -1) * (Number.isNaN(difference) ? x.localeCompare(y) : difference);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    });
  }));

  // the assignment of a series at a budget
  const store = JSON.parse(one("#assignments").textContent);
  const [series, budget] = [one("#series"), one("#budget")];
  const assignment = (run) => ({
    layers: Object.fromEntries(store.layers[run.layers].map((name, index) => [name, {
      weight: store.formats[run.pairs[2 * index]], activation: store.formats[run.pairs[2 * index + 1]],
    }])),
    ...run.rest,
  });
  const show = () => {
    const run = store.runs.find((other) => other.series === series.value && other.budget === budget.value);
    if (!run) return;
    const whole = assignment(run);
    one("#chosen-facts").replaceChildren(...run.facts.map(([name, value]) => {
      const [group, term, told] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = name;
      told.textContent = value;
      group.append(term, told);
      return group;
    }));
    const cells = [], rows = [...new Set(run.cells.map((cell) => cell[0]))], columns = [...new Set(run.cells.map((cell) => cell[1]))];
    const add = (tag, text) => { const made = document.createElement(tag); made.textContent = text; cells.push(made); return made; };
    for (const role of rows) {
      add("span", role);
      for (const depth of columns) {
        const cell = run.cells.find((other) => other[0] === role && other[1] === depth);
        const made = add("i", "");
        if (!cell) { made.style.visibility = "hidden"; continue; }
        made.style.setProperty("--w", `var(--b${cell[2]})`);
        made.style.setProperty("--a", `var(--b${cell[3]})`);
        if (cell[5]) made.style.background = cell[5];
        made.title = cell[4];
      }
    }
    add("span", "block");
    columns.forEach((depth, index) => add("em", columns.length > 16 && index % 4 ? "" : depth));
    const grid = one("#chosen-map");
    grid.style.setProperty("--n", columns.length);
    grid.replaceChildren(...cells);
    const link = one("#download");
    link.href = `data:application/json;charset=utf-8,${encodeURIComponent(`${JSON.stringify(whole, null, 2)}\n`)}`;
    link.download = "assignment.json";
    all("tr[data-key]").forEach((row) => row.classList.toggle("chosen", row.dataset.key === run.key));
  };
  const offer = () => {
    const kept = budget.value;
    const runs = store.runs.filter((run) => run.series === series.value);
    budget.replaceChildren(...runs.map((run) => new Option(run.budget, run.budget)));
    if (runs.some((run) => run.budget === kept)) budget.value = kept;
    show();
  };
  const choose = (key) => {
    const run = store.runs.find((other) => other.key === key);
    if (!run || !series) return;
    series.value = run.series;
    offer();
    budget.value = run.budget;
    show();
  };
  if (series && store.runs.length) {
    series.replaceChildren(...[...new Set(store.runs.map((run) => run.series))].map((name) => new Option(name, name)));
    series.addEventListener("change", offer);
    budget.addEventListener("change", show);
    choose(store.first);
  }
})();
