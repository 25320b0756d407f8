"""The words of the little world, and how English inflects them."""

from __future__ import annotations


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


WOMEN = _split(
    "Ada Amy Anna Bea Cora Dina Edith Ella Emma Eva Fay Gina Greta Hanna Ida Ines Iris Jana Jill Judy Kate Lea Lena Lily Lisa Lucy "
    "Maya Mia Nina Nora Olga Paula Rita Rosa Ruth Sara Tess Tina Vera Zoe"
)
MEN = _split(
    "Adam Alan Ben Bert Carl Dan Dirk Eli Emil Eric Finn Fred Gus Hans Henry Hugo Ivan Jack Jan Joel John Karl Kurt Leo Liam Luke Mark "
    "Max Nick Noah Omar Oscar Otto Paul Pete Ralph Rolf Sam Theo Tom"
)
TOWNS = _split("Aven Brill Corth Dorn Fenwick Gorse Harrow Istra Kessel Lund Norby Ostley Pell Rosk Sorn Velm")
RIVERS = _split("Alder Bourne Ember Ister Lark Mole Tarn Wend")
JOBS = _split("baker doctor farmer gardener hunter judge miller painter potter sailor singer tailor teacher writer")
FOODS = _split("bread butter cake cheese fish fruit honey meat nuts porridge rice salad soup stew")
PETS = _split("cat dog duck goat goose hen horse mouse parrot rabbit sheep turtle")
INSTRUMENTS = _split("drum fiddle flute harp horn lute piano trumpet")
COLOURS = _split("black blue brown green grey red white yellow")
SIZES = _split("big small old new heavy little")
OBJECTS = _split(
    "apple axe ball basket bell blanket book bottle bowl box brush candle coin cup egg hammer hat key knife ladder lamp letter "
    "mirror orange ring rope shell spoon stone umbrella"
)
ROOMS = _split("attic barn bedroom cellar garden hall kitchen library shed stable tower workshop")
PREPOSITIONS = ("near", "behind", "beside", "under", "above")
KIN = _split("boy girl king queen child woman man guest")
ANIMAL_VERBS = ("eat", "hide", "jump", "rest", "run", "sleep", "swim", "wait")
PERSON_VERBS = ("dance", "laugh", "read", "sing", "smile", "talk", "walk", "work")
SEEING_VERBS = ("see", "hear", "follow", "like")
MANNERS = ("at night", "in the morning", "all day", "every week", "without a sound", "for a while")
DAYS = _split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _split("January February March April May June July August September October November December")
COMPARISONS = (("older", "oldest", "youngest"), ("taller", "tallest", "shortest"), ("faster", "fastest", "slowest"))

_IRREGULAR = {"knife": "knives", "mouse": "mice", "goose": "geese", "sheep": "sheep", "child": "children", "man": "men", "woman": "women"}
_SMALL = _split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty", 6: "sixty", 7: "seventy", 8: "eighty", 9: "ninety"}


def number(value: int) -> str:
    """The English words of 0 to 99: 42 is "forty two"."""
    if value < 20:
        return _SMALL[value]
    tens, ones = divmod(value, 10)
    return _TENS[tens] if ones == 0 else f"{_TENS[tens]} {_SMALL[ones]}"


def plural(noun: str) -> str:
    """Many of a noun."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    return f"{noun}es" if noun.endswith(("x", "sh", "ch")) else f"{noun}s"


def counted(value: int, noun: str) -> str:
    """A number of things, in agreement: "one cup", "five cups"."""
    return f"{number(value)} {noun if value == 1 else plural(noun)}"


def a(noun: str) -> str:
    """The noun with the article that its first letter asks for."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def third_person(verb: str) -> str:
    """The present tense of a regular verb for a singular subject."""
    return verb + ("es" if verb.endswith(("sh", "ch")) else "s")


def sentence(words: str, mark: str = ".") -> str:
    """Words with a capital and a full stop."""
    return words[0].upper() + words[1:] + mark


def listed(items: list[str]) -> str:
    """Items as a list in running text: "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
