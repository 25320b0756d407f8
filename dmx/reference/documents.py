"""Short documents about the world: each kind asks the model for another skill, and answers what it asks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from dmx.reference import words
from dmx.reference.dice import Dice
from dmx.reference.words import a, counted, listed, number, plural, sentence, third_person
from dmx.reference.world import Person, world


def document(dice: Dice) -> str:
    """One document of a random kind, on one line."""
    return " ".join(dice.pick(KINDS)(dice))


def fact(person: Person, kind: str, subject: str) -> str:
    """What the world knows of a person, with a subject chosen by the caller (a name, she, he)."""
    theirs = person.possessive if subject != person.name else f"{person.name}'s"
    match kind:
        case "town":
            return f"{subject} lives in {person.town}"
        case "job":
            return f"{subject} is {a(person.job)}"
        case "food":
            return f"{subject} likes {person.food}"
        case "pet":
            return f"{subject} has a {person.pet_colour} {person.pet}"
        case "instrument":
            return f"{subject} plays the {person.instrument}"
        case "age":
            return f"{subject} is {number(person.age)} years old"
        case _:
            return f"{theirs} best friend is {person.friend}"


FACTS = ("town", "job", "food", "pet", "instrument", "age", "friend")


def biography(dice: Dice) -> list[str]:
    """Facts about one person, then some about the friend: knowledge and pronouns."""
    person = dice.pick(list(world().people.values()))
    lines = []
    for count in (dice.between(3, 5), 2):
        for index, kind in enumerate(dice.sample(FACTS, count)):
            lines.append(sentence(fact(person, kind, person.subject if index else person.name)))
        person = world().people[person.friend]
    return lines


def comparison_of_people(dice: Dice) -> list[str]:
    """Facts about several people in turn: knowledge without a running topic, and what two of them share."""
    lines = []
    for person in dice.sample(list(world().people.values()), 3):
        kind, other = dice.sample(FACTS, 2)
        lines.append(sentence(f"{fact(person, kind, person.name)} and {fact(person, other, person.subject)}"))
    return lines


def census(dice: Dice) -> list[str]:
    """What is known of a town, and who lives there."""
    town = world().towns[dice.pick(words.TOWNS)]
    mayor = world().people[town.mayor]
    lines = [
        f"{town.name} lies on the {town.river} near {town.neighbour}.",
        f"People in {town.name} make {town.trade}.",
        f"The mayor of {town.name} is {mayor.name}.",
        sentence(fact(mayor, dice.pick(FACTS), mayor.subject)),
    ]
    return lines if dice.chance(0.5) else lines[2:] + lines[:2]


def agreement(dice: Dice) -> list[str]:
    """Subjects and verbs that agree across a noun of the other number."""
    return [sentence(" ".join(agreeing(dice))) for _ in range(dice.between(3, 5))]


def agreeing(dice: Dice) -> tuple[str, str, str]:
    """A subject with something between it and its verb, the verb that agrees, and the rest of the sentence."""
    subject, many, living = noun_phrase(dice)
    attractor, _, _ = noun_phrase(dice)
    if living and dice.chance(0.4):
        verb = dice.pick(words.SEEING_VERBS)
        between = f"that {verb if many else third_person(verb)} {attractor}"
    else:
        between = f"{dice.pick(words.PREPOSITIONS)} {attractor}"
    head = subject.split()[-1]
    noun = next(known for known in words.OBJECTS + words.PETS + words.KIN if head in (known, plural(known)))
    facts = world()
    if not living:
        rest = facts.colour_of[noun] if dice.chance(0.5) else f"in the {facts.room_of[noun]}"
        return f"{subject} {between}", "are" if many else "is", rest
    verb = facts.verb_of[noun]
    return f"{subject} {between}", verb if many else third_person(verb), facts.manner_of[verb]


def noun_phrase(dice: Dice) -> tuple[str, bool, bool]:
    """A noun with its article; whether it is many; whether it lives."""
    many = dice.chance(0.5)
    living = dice.chance(0.5)
    noun = dice.pick(words.PETS + words.KIN if living else words.OBJECTS)
    while plural(noun) == noun:
        noun = dice.pick(words.KIN)
    adjective = f"{dice.pick(words.SIZES)} " if dice.chance(0.3) else ""
    return f"the {adjective}{plural(noun) if many else noun}", many, living


def gifts(dice: Dice) -> list[str]:
    """Who gave what to whom, then questions: recall from context."""
    lines, givings = giving(dice)
    for giver, thing, taker in dice.sample(givings, 2):
        lines.append(dice.pick(RECALLS)(giver, thing, taker))
    return lines


def giving(dice: Dice) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Sentences of gifts among different people, and the (giver, thing, taker) they tell of."""
    count = dice.between(3, 4)
    names = dice.sample(words.WOMEN + words.MEN, 2 * count)
    things = dice.sample(words.OBJECTS, count)
    givings = [(names[2 * index], thing, names[2 * index + 1]) for index, thing in enumerate(things)]
    return [f"{giver} gave {a(thing)} to {taker}." for giver, thing, taker in givings], givings


RECALLS: tuple[Callable[[str, str, str], str], ...] = (
    lambda giver, thing, taker: f"Who gave away the {thing}? It was {giver}.",
    lambda giver, thing, taker: f"Who has the {thing} now? It is {taker}.",
    lambda giver, thing, taker: f"What did {giver} give? It was the {thing}.",
    lambda giver, thing, taker: f"What did {taker} get? It was the {thing}.",
)


def whereabouts(dice: Dice) -> list[str]:
    """Things that people carry from room to room, then questions: tracking a state."""
    lines, places = carrying(dice)
    return lines + [f"Where is the {thing}? It is in the {place}." for thing, place in dice.shuffled(list(places.items()))]


def carrying(dice: Dice) -> tuple[list[str], dict[str, str]]:
    """Sentences of movements, and the room where each thing ends."""
    people = [world().people[name] for name in dice.sample(words.WOMEN + words.MEN, 2)]
    things = dice.sample(words.OBJECTS, 2)
    rooms = dice.sample(words.ROOMS, 4)
    lines, places = [], {}
    for person, thing, room in zip(people, things, rooms[:2], strict=True):
        lines.append(f"{person.name} took the {thing} to the {room}.")
        places[thing] = room
    for _ in range(dice.between(1, 3)):
        mover, thing = dice.pick(people), dice.pick(things)
        room = dice.pick([room for room in rooms if room != places[thing]])
        if dice.chance(0.5):
            lines.append(f"{mover.name} went to the {places[thing]}, found the {thing} and carried it to the {room}.")
        else:
            lines.append(f"Then {mover.name} moved the {thing} from the {places[thing]} to the {room}.")
        places[thing] = room
    return lines, places


def stock(dice: Dice) -> list[str]:
    """A number of things that grows and shrinks: counting."""
    lines, noun, total, room = stocking(dice)
    return lines + [f"Now there {'is' if total == 1 else 'are'} {counted(total, noun)} in the {room}."]


def stocking(dice: Dice) -> tuple[list[str], str, int, str]:
    """Sentences of things brought and taken; the thing, how many there are at the end, the room."""
    noun, room = dice.pick(words.OBJECTS), dice.pick(words.ROOMS)
    total = dice.between(1, 12)
    lines = [f"There {'is' if total == 1 else 'are'} {counted(total, noun)} in the {room}."]
    for name in dice.sample(words.WOMEN + words.MEN, dice.between(1, 3)):
        amount = dice.between(1, 5)
        if total > amount and dice.chance(0.5):
            total -= amount
            lines.append(f"{name} takes {number(amount)} away.")
        else:
            total += amount
            lines.append(f"{name} brings {number(amount)} more.")
    return lines, noun, total, room


def sums(dice: Dice) -> list[str]:
    """Small arithmetic in words."""
    return [sentence(f"{left} {right}") for left, right, _ in (calculation(dice) for _ in range(dice.between(3, 5)))]


def calculation(dice: Dice) -> tuple[str, str, int]:
    """The words before the result, the result in words, the result."""
    kind = dice.below(3)
    if kind == 0:
        left, right = dice.between(1, 40), dice.between(1, 40)
        return f"{number(left)} plus {number(right)} is", number(left + right), left + right
    if kind == 1:
        left = dice.between(2, 60)
        right = dice.between(1, left)
        return f"{number(left)} minus {number(right)} is", number(left - right), left - right
    left, right = dice.between(2, 9), dice.between(2, 9)
    return f"{number(left)} times {number(right)} is", number(left * right), left * right


def ranking(dice: Dice) -> list[str]:
    """People in order of something, told in pieces: transitive inference."""
    lines, names, (_, most, least) = ranked(dice)
    return lines + [f"The {most} is {names[0]}.", f"The {least} is {names[-1]}."]


def ranked(dice: Dice) -> tuple[list[str], list[str], tuple[str, str, str]]:
    """Sentences that compare neighbours, the names from most to least, the words for more, most and least."""
    comparison = dice.pick(words.COMPARISONS)
    names = dice.sample(words.WOMEN + words.MEN, dice.between(3, 4))
    pairs = dice.shuffled(list(pairwise(names)))
    return [f"{more} is {comparison[0]} than {less}." for more, less in pairs], names, comparison


def packing(dice: Dice) -> list[str]:
    """A list, then the same list again, or backwards."""
    first, second = dice.sample(words.WOMEN + words.MEN, 2)
    things = [a(thing) for thing in dice.sample(words.OBJECTS, dice.between(3, 5))]
    lines = [f"{first} packs {listed(things)}."]
    lines.append(f"{second} packs the same: {listed(things)}.")
    if dice.chance(0.5):
        lines.append(f"{first} takes them out in turn: {listed(things[::-1])}.")
    return lines


def calendar(dice: Dice) -> list[str]:
    """Days and months that follow one another."""
    lines = []
    for _ in range(dice.between(2, 4)):
        names, unit = (words.DAYS, "day") if dice.chance(0.5) else (words.MONTHS, "month")
        start, steps = dice.below(len(names)), dice.between(1, 5)
        if dice.chance(0.5):
            lines.append(f"{counted(steps, unit).capitalize()} after {names[start]} comes {names[(start + steps) % len(names)]}.")
        else:
            lines.append(f"{counted(steps, unit).capitalize()} before {names[start]} comes {names[(start - steps) % len(names)]}.")
    return lines


KINDS: tuple[Callable[[Dice], list[str]], ...] = (
    biography,
    biography,
    comparison_of_people,
    comparison_of_people,
    census,
    agreement,
    gifts,
    gifts,
    whereabouts,
    stock,
    sums,
    ranking,
    packing,
    calendar,
)
