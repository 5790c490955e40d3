"""How people put it: free phrasings of a face's facts for the embedder to learn from, and `read`, which finds
orientation and expression in any text."""

import re

import numpy as np

from demo.words import Facts

# What a phrase that goes before "face" and one that goes after it can say.
BEFORE = {
    "front": ("front-facing", "forward-facing", "frontal"),
    "left": ("left-facing", "left-turned", "leftward-facing"),
    "right": ("right-facing", "right-turned", "rightward-facing"),
    "up": ("upward-facing", "up-facing", "upturned"),
    "down": ("downward-facing", "down-facing", "downturned"),
}
AFTER = {
    "front": (
        "facing forward",
        "facing front",
        "facing the camera",
        "facing the viewer",
        "looking straight ahead",
        "looking at the camera",
        "looking at us",
        "seen from the front",
    ),
    "left": (
        "facing left",
        "facing to the left",
        "looking left",
        "looking to the left",
        "looking towards the left",
        "turned left",
        "turned to the left",
        "with the head turned to the left",
    ),
    "right": (
        "facing right",
        "facing to the right",
        "looking right",
        "looking to the right",
        "looking towards the right",
        "turned right",
        "turned to the right",
        "with the head turned to the right",
    ),
    "up": (
        "facing up",
        "facing upward",
        "looking up",
        "looking upwards",
        "looking up at the sky",
        "tilted up",
        "tilted upward",
        "with the head tilted up",
    ),
    "down": (
        "facing down",
        "facing downward",
        "looking down",
        "looking downwards",
        "looking down at the floor",
        "tilted down",
        "tilted downward",
        "with the head tilted down",
    ),
}
FEELS = {
    "neutral": ("neutral", "calm", "serious", "expressionless", "blank", "composed", "relaxed", "emotionless"),
    "smiling": ("smiling", "happy", "cheerful", "joyful", "friendly", "grinning", "pleased", "content"),
    "laughing": ("laughing", "laughing out loud", "giggling", "amused", "hilarious", "cracking up"),
    "sad": ("sad", "unhappy", "frowning", "gloomy", "sorrowful", "crying", "depressed", "tearful"),
    "surprised": ("surprised", "astonished", "shocked", "amazed", "startled", "stunned"),
    "angry": ("angry", "furious", "mad", "annoyed", "grumpy", "scowling", "enraged"),
    "winking": ("winking", "cheeky", "flirty", "mischievous"),
}
SHOWS = {
    "neutral": ("a straight face", "no expression", "no emotion"),
    "smiling": ("a smile", "a happy smile", "a grin"),
    "laughing": ("a laugh", "a big laugh", "open laughter"),
    "sad": ("a frown", "a sad look", "tears"),
    "surprised": ("a look of surprise", "an open mouth of surprise", "an astonished look"),
    "angry": ("a scowl", "an angry look", "a look of anger"),
    "winking": ("a wink", "one eye closed", "one eye shut"),
}
AMOUNT = {
    "faint": ("slightly", "faintly", "a little", "somewhat"),
    "plain": ("", "", "", "very", "broadly", "strongly"),
}
TURN = {"slightly": ("slightly", "a little"), "clearly": ("",), "far": ("far", "fully", "sharply")}
WHO = {
    "female": ("woman", "girl", "lady", "female", "female face", "female character"),
    "male": ("man", "guy", "boy", "male", "male face", "male character"),
    None: ("face", "person", "memoji", "character", "portrait", "cartoon face", "avatar", "head", "emoji"),
}
SKINS = {
    "porcelain": ("porcelain skin", "very pale skin", "pale skin"),
    "fair": ("fair skin", "light skin"),
    "olive": ("olive skin",),
    "tan": ("tan skin", "tanned skin"),
    "brown": ("brown skin",),
    "dark": ("dark skin", "deep dark skin"),
}
STYLES = {
    "bald": ("a bald head", "no hair"),
    "short": ("short {} hair", "short, {} hair"),
    "spiky": ("spiky {} hair", "{} spikes of hair"),
    "curly": ("curly {} hair", "{} curls"),
    "afro": ("a {} afro", "{} afro hair"),
    "bob": ("a {} bob", "{} hair in a bob"),
    "long": ("long {} hair", "long, {} hair"),
    "ponytail": ("a {} ponytail", "{} hair in a ponytail"),
    "bun": ("a {} bun", "{} hair in a bun"),
}
COLORS = {"blond": ("blond", "blonde", "golden"), "red": ("red", "ginger"), "grey": ("grey", "gray", "silver")}
EYEWEAR = {"round": ("round glasses", "glasses", "round spectacles"), "square": ("square glasses", "square spectacles")}
WORN = {"moustache": ("a moustache", "a mustache"), "beard": ("a beard", "a full beard")}


ORIENTED_AND_FEELING = (
    "{before}, {feeling} expression{looks}",
    "{before} {who} with a {feeling} expression{looks}",
    "a {before} {who}{looks} and {shown}",
    "{feeling} {who} {after}{looks}",
    "a {feeling} {who}{looks}, {after}",
    "a {feeling} {who}{looks} {after}",
    "{who} {after}, {feeling}{looks}",
    "a {who}{looks} {after}, {feeling}",
    "a {who} {after} with a {feeling} expression{looks}",
    "{before} {feeling} {who}{looks}",
    "{after}, {feeling}{looks}",
    "{feeling}, {after}{looks}",
    "the {who}{looks} is {feeling} and {after}",
    "the {who} is {after} and looks {feeling}{looks}",
    "{who}{looks}, {before}, {shown}",
)
ORIENTED = ("{before} {who}{looks}", "a {who}{looks} {after}", "{who} {after}{looks}", "{before}{looks}", "{after}")
FEELING = (
    "{feeling} {who}{looks}",
    "a {who}{looks} and {shown}",
    "{who}{looks}, {feeling}",
    "{feeling} expression",
    "{feeling}",
)


def phrase(facts: Facts, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A text of a few words to two sentences, and those of the `facts` that it names."""
    gender = facts["gender"] if rng.random() < 0.5 else None
    looks, keys = _looks(facts, rng) if rng.random() < 0.6 else ([], [])
    templates = (ORIENTED_AND_FEELING, ORIENTED, FEELING)[rng.choice(3, p=(0.8, 0.1, 0.1))]
    turn = _pick(TURN[facts["degree"]], rng) if facts["orientation"] != "front" else ""
    after = _pick(AFTER[facts["orientation"]], rng)
    feeling = f"{_pick(AMOUNT[facts['intensity']], rng)} {_pick(FEELS[facts['expression']], rng)}".strip()
    plain = facts["intensity"] == "plain"
    template = _pick(templates, rng)
    text = template.format(
        before=f"{turn} {_pick(BEFORE[facts['orientation']], rng)}".strip(),
        after=after.replace("head ", f"head {turn} ") if after.startswith("with") else f"{turn} {after}".strip(),
        feeling=feeling,
        shown=_pick(SHOWS[facts["expression"]], rng) if plain else f"a {feeling} expression",
        who=_pick(WHO[gender], rng),
        looks=f" with {_series(looks)}" if looks else "",
    )
    if "{looks}" not in template:
        keys = []
    keys += ["gender"] * (gender is not None and "{who}" in template)
    if templates is not FEELING:
        keys += ["orientation", "degree"]
    if templates is not ORIENTED:
        keys += ["expression", "intensity"]
    text = " ".join(text.split())
    text = text[0].upper() + text[1:] if rng.random() < 0.5 else text
    return text + "." * (rng.random() < 0.3), {key: facts[key] for key in keys}


def _looks(facts: Facts, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Noun phrases for some of the features that stay the same, and the facts they name."""
    color = _pick(COLORS.get(facts["hair_color"], (facts["hair_color"],)), rng)
    hair = _pick(STYLES[facts["hair_style"]], rng)
    shirt = f"{facts['top_color']} {_pick(('top', 'shirt', 'sweater'), rng)}"
    phrases = [
        (0.5, hair.format(color), ["hair_style", *["hair_color"] * ("{}" in hair)]),
        (0.2 * (facts["hair_style"] != "bald" and "{}" in hair), f"{color} hair", ["hair_color"]),
        (0.4, _pick(SKINS[facts["skin"]], rng), ["skin"]),
        (0.2, f"{facts['eye_color']} eyes" if facts["eye_color"] != "hidden" else "", ["eye_color"]),
        (0.6, _pick(EYEWEAR.get(facts["glasses"], ("",)), rng), ["glasses"]),
        (0.6, _pick(WORN.get(facts["facial_hair"], ("",)), rng), ["facial_hair", "gender"]),
        (0.2, f"{'an' if shirt[0] == 'o' else 'a'} {shirt}", ["top_color"]),
        (0.4, f"a {facts['headwear']}" if facts["headwear"] != "none" else "", ["headwear"]),
        (0.3, "earrings" if facts["earrings"] == "yes" else "", ["earrings"]),
    ]
    said = [(text, keys) for chance, text, keys in phrases if text and rng.random() < chance]
    said = [said[i] for i in rng.permutation(len(said))]
    return [text for text, _ in said], [key for _, keys in said for key in keys]


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def _series(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


_MOVES = (
    r"(?:facing|faces|looking|looks|gazing|turned|turns|tilted|tilts)"
    r"(?: (?:slightly|clearly|far|fully|sharply|a little))?"
)
_ORIENTATION = {
    "front": rf"front(?:al)?\b|forward-facing|{_MOVES} (?:forward|straight|(?:at )?(?:us|the (?:camera|viewer))\b)",
    "left": rf"left(?:ward)?-(?:facing|turned)|{_MOVES}(?: (?:to|towards) the)? left",
    "right": rf"right(?:ward)?-(?:facing|turned)|{_MOVES}(?: (?:to|towards) the)? right",
    "up": rf"up(?:ward)?-facing|upturned|{_MOVES} up(?:wards?)?\b",
    "down": rf"down(?:ward)?-facing|downturned|{_MOVES} down(?:wards?)?\b",
}
_EXPRESSION = {value: "|".join(rf"\b{re.escape(word)}\b" for word in FEELS[value] + SHOWS[value]) for value in FEELS}


def read(text: str) -> tuple[str | None, str | None]:
    """Orientation and expression as `text` states them; what it says first counts, None is what it does not say."""
    text = text.lower()
    return _first(_ORIENTATION, text), _first(_EXPRESSION, text)


def _first(patterns: dict[str, str], text: str) -> str | None:
    found = {value: match.start() for value, pattern in patterns.items() if (match := re.search(pattern, text))}
    return min(found, key=found.__getitem__) if found else None
