"""Multiple-choice questions about the world, in the words of its documents: {query, choices, gold}."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from dmx.errors import DmxError
from dmx.reference import words
from dmx.reference.dice import Dice
from dmx.reference.documents import RECALLS, agreeing, calculation, carrying, fact, giving, ranked, stocking
from dmx.reference.words import a, number, plural, sentence, third_person
from dmx.reference.world import world

#: questions to a task
QUESTIONS = 300


@dataclass(frozen=True, slots=True)
class Question:
    """A text, its possible continuations (joined to it by a space), and which of them is right."""

    query: str
    choices: tuple[str, ...]
    gold: int


@cache
def questions(name: str, count: int = QUESTIONS) -> tuple[Question, ...]:
    """The first `count` questions of a task.

    Raises: DmxError for a task that does not exist.
    """
    if name not in _MAKERS:
        raise DmxError(f"unknown reference task {name!r}: known are {', '.join(NAMES)}")
    dice = Dice(1000 + NAMES.index(name))
    return tuple(_MAKERS[name](dice) for _ in range(count))


def _question(dice: Dice, query: str, right: str, wrong: Sequence[str], ending: str = ".") -> Question:
    """The right answer among the wrong ones, in random order."""
    choices = dice.shuffled([right, *wrong])
    return Question(query, tuple(choice + ending for choice in choices), choices.index(right))


def _near(dice: Dice, value: int, low: int, high: int) -> list[int]:
    """Three other numbers, the likeliest slips: off by little, or by ten."""
    slips = [value + step for step in (-10, -3, -2, -1, 1, 2, 3, 10) if low <= value + step <= high]
    return dice.sample(slips, 3)


def _agreement(dice: Dice) -> Question:
    """is or are, sings or sing, across a noun of either number: chance 1/2."""
    subject, verb, rest = agreeing(dice)
    other = {"is": "are", "are": "is"}.get(verb)
    if other is None:
        many = verb in words.ANIMAL_VERBS + words.PERSON_VERBS
        other = third_person(verb) if many else next(v for v in words.ANIMAL_VERBS + words.PERSON_VERBS if third_person(v) == verb)
    return _question(dice, sentence(subject, ""), f"{verb} {rest}", [f"{other} {rest}"])


def _pronoun(dice: Dice) -> Question:
    """She or he, by the name: chance 1/2."""
    person = world().people[dice.pick(words.WOMEN + words.MEN)]
    first, second = dice.sample(("town", "job", "food", "instrument"), 2)
    wrong = "He" if person.woman else "She"
    return _question(
        dice,
        sentence(fact(person, first, person.name)),
        fact(person, second, person.subject.capitalize()),
        [fact(person, second, wrong)],
    )


def _recall(dice: Dice) -> Question:
    """Who gave what to whom, among all who were named: chance 1/4."""
    lines, givings = giving(dice)
    giver, thing, taker = dice.pick(givings)
    ask = dice.below(len(RECALLS))
    query, right = RECALLS[ask](giver, thing, taker)[:-1].rsplit(" ", 1)
    if ask < 2:
        pool = [name for giving_name, _, taking_name in givings for name in (giving_name, taking_name)]
    else:
        pool = [known for _, known, _ in givings]
        pool += dice.sample([other for other in words.OBJECTS if other not in pool], 1)
    return _question(dice, " ".join([*lines, query]), right, dice.sample([name for name in pool if name != right], 3))


def _location(dice: Dice) -> Question:
    """Where a thing is after it was carried about: chance 1/4."""
    lines, places = carrying(dice)
    thing = dice.pick(list(places))
    wrong = [room for room in words.ROOMS if room != places[thing]]
    told = [room for room in wrong if any(f"the {room}" in line for line in lines)]
    others = dice.sample([room for room in wrong if room not in told], 3)
    return _question(dice, " ".join([*lines, f"Where is the {thing}? It is in the"]), places[thing], (told + others)[:3])


def _counting(dice: Dice) -> Question:
    """How many are there now: chance 1/4."""
    lines, noun, total, room = stocking(dice)
    while total == 1:  # one is given away by the verb
        lines, noun, total, room = stocking(dice)
    wrong = [number(value) for value in _near(dice, total, 2, 40)]
    return _question(dice, " ".join([*lines, "Now there are"]), number(total), wrong, f" {plural(noun)} in the {room}.")


def _arithmetic(dice: Dice) -> Question:
    """Sums, differences and products in words: chance 1/4."""
    left, right, value = calculation(dice)
    return _question(dice, sentence(left, ""), right, [number(other) for other in _near(dice, value, 0, 99)])


def _knowledge(dice: Dice) -> Question:
    """A fact about a person, among other facts of its kind: chance 1/4."""
    people = list(world().people.values())
    person = dice.pick(people)
    kind, right, pool = dice.pick(
        (
            ("town", person.town, words.TOWNS),
            ("job", person.job, words.JOBS),
            ("food", person.food, words.FOODS),
            ("instrument", person.instrument, words.INSTRUMENTS),
            ("friend", person.friend, words.WOMEN + words.MEN),
        )
    )
    query = fact(person, kind, person.name).rsplit(" ", 1)[0]
    if kind == "job":
        pool = tuple(job for job in pool if a(job)[:2] == a(right)[:2])
    return _question(dice, query, right, dice.sample([other for other in pool if other not in (right, person.name)], 3))


def _order(dice: Dice) -> Question:
    """Who is the tallest, or the shortest, among those compared: chance 1/3."""
    lines, names, (_, most, least) = ranked(dice)
    top = dice.chance(0.5)
    right = names[0] if top else names[-1]
    wrong = dice.sample([name for name in names if name != right], 2)
    return _question(dice, " ".join([*lines, f"The {most if top else least} is"]), right, wrong)


_MAKERS: dict[str, Callable[[Dice], Question]] = {
    "agreement": _agreement,
    "pronoun": _pronoun,
    "recall": _recall,
    "location": _location,
    "counting": _counting,
    "arithmetic": _arithmetic,
    "knowledge": _knowledge,
    "order": _order,
}
#: every task
NAMES = tuple(_MAKERS)
