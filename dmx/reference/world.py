"""A little world whose facts never change: who lives where, who keeps what, what is found in which room, which noun does what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from dmx.reference import words
from dmx.reference.dice import Dice

#: decides every fact of the world
WORLD_SEED = 20260


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One inhabitant. The facts are the same in every text."""

    name: str
    woman: bool
    town: str
    job: str
    food: str
    pet: str
    pet_colour: str
    instrument: str
    age: int
    friend: str

    @property
    def subject(self) -> str:
        """she or he."""
        return "she" if self.woman else "he"

    @property
    def possessive(self) -> str:
        """her or his."""
        return "her" if self.woman else "his"


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """One town. Its mayor, river and trade never change."""

    name: str
    river: str
    mayor: str
    trade: str
    neighbour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All facts."""

    people: dict[str, Person]
    towns: dict[str, Town]
    colour_of: dict[str, str]  #: object -> its usual colour
    room_of: dict[str, str]  #: object -> the room where it is usually kept
    verb_of: dict[str, str]  #: animal or kind of person -> what it usually does
    manner_of: dict[str, str]  #: verb -> when or how


@cache
def world() -> World:
    """The world that WORLD_SEED makes."""
    dice = Dice(WORLD_SEED)
    names = words.WOMEN + words.MEN
    people = {}
    for name in names:
        people[name] = Person(
            name=name,
            woman=name in words.WOMEN,
            town=dice.pick(words.TOWNS),
            job=dice.pick(words.JOBS),
            food=dice.pick(words.FOODS),
            pet=dice.pick(words.PETS),
            pet_colour=dice.pick(words.COLOURS),
            instrument=dice.pick(words.INSTRUMENTS),
            age=dice.between(18, 79),
            friend=dice.pick([other for other in names if other != name]),
        )
    towns = {
        name: Town(
            name=name,
            river=dice.pick(words.RIVERS),
            mayor=dice.pick(names),
            trade=dice.pick(words.FOODS),
            neighbour=dice.pick([other for other in words.TOWNS if other != name]),
        )
        for name in words.TOWNS
    }
    verbs = words.ANIMAL_VERBS + words.PERSON_VERBS
    return World(
        people=people,
        towns=towns,
        colour_of={thing: dice.pick(words.COLOURS) for thing in words.OBJECTS},
        room_of={thing: dice.pick(words.ROOMS) for thing in words.OBJECTS},
        verb_of={pet: dice.pick(words.ANIMAL_VERBS) for pet in words.PETS} | {kin: dice.pick(words.PERSON_VERBS) for kin in words.KIN},
        manner_of={verb: dice.pick(words.MANNERS) for verb in verbs},
    )
