"""Draws the cast anew: `python -m demo.faces.casting` prints the rows of demo/faces/cast.py.

Faces as random as those that the captioner learned from, yet none of these: their characters are drawn here again,
without a picture. Two of the cast differ in at least `APART` attributes besides the eyes' colour, which a laugh hides.
"""

from dataclasses import astuple, replace
from functools import cache

import numpy as np

from demo.faces.cast import PEOPLE
from demo.faces.characters import CAST, Character, any_character

FIRST, APART = 8, 3
SEED = 8  # of 20, the one whose rarest hair style, headwear or colour among the women or the men is least rare
LEARNED, LEARNED_SEED = 9000, 1  # pictures and seed of demo/checkpoints/train_captioner.py


@cache
def learned() -> frozenset[tuple[str | bool, ...]]:
    """The attributes of every character that the captioner was trained on, when the cast was its first eight."""
    first = {member.attributes for member in CAST[:FIRST]}

    def drawn(number: int) -> tuple[str | bool, ...]:
        rng = np.random.default_rng((LEARNED_SEED, number))
        while (attributes := any_character(rng).attributes) in first:
            pass
        return attributes

    return frozenset(map(drawn, range(LEARNED)))


def cast() -> list[Character]:
    """The first eight as they are, then every other name with the next fitting face of its gender."""
    rng, barred, chosen = np.random.default_rng(SEED), learned(), list(CAST[:FIRST])
    names = {gender: [name for name, of, *_ in PEOPLE[FIRST:] if of == gender] for gender in ("female", "male")}
    while any(names.values()):
        face = any_character(rng)
        if names[face.gender] and face.attributes not in barred and all(_apart(face, one) >= APART for one in chosen):
            chosen.append(replace(face, name=names[face.gender].pop(0)))
    order = [name for name, *_ in PEOPLE]
    return sorted(chosen, key=lambda one: order.index(one.name))


def _apart(a: Character, b: Character) -> int:
    """In how many attributes that show in every pose two characters differ."""
    alike = replace(a, eye_color=b.eye_color)
    return sum(one != other for one, other in zip(alike.attributes, b.attributes, strict=True))


if __name__ == "__main__":
    for member in cast():
        print(f"    {astuple(member)},".replace("'", '"'))
