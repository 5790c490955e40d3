"""What is true of a picture, in words: the facts of a face, the caption and the summary that state them.

The demo checkpoints learn from these texts. The wording of a sentence depends only on what can be seen, so that one
picture has one right caption.
"""

from collections.abc import Mapping

import numpy as np

from demo.faces import characters
from demo.faces.characters import Character, Pose

Facts = Mapping[str, str]

DIRECTIONS = ("none", "left", "right", "up", "down")
VALUES = {
    "orientation": characters.ORIENTATIONS,
    "degree": ("slightly", "clearly", "far"),
    "lean": DIRECTIONS,
    "expression": characters.EXPRESSIONS,
    "intensity": ("faint", "plain"),
    "gender": characters.GENDERS,
    "skin": characters.SKINS,
    "hair_style": characters.HAIR_STYLES,
    "hair_color": characters.HAIR_COLORS,
    "eye_color": (*characters.EYE_COLORS, "hidden"),
    "glasses": characters.GLASSES,
    "facial_hair": characters.FACIAL_HAIR,
    "headwear": characters.HEADWEAR,
    "earrings": ("no", "yes"),
    "top_color": characters.TOP_COLORS,
}
LEANING = 0.18  # a second axis (or a front view) that is off by this much of the range is said to lean
PLAIN = 0.6  # an expression of less intensity is faint


def facts(character: Character, pose: Pose) -> dict[str, str]:
    """Everything that the words say of a picture: one value of `VALUES` for each of its keys."""
    horizontal, vertical = abs(pose.yaw), abs(pose.pitch)
    front = pose.orientation == "front"
    sideways = (horizontal >= vertical) == front  # does the axis that `lean` speaks of run from left to right?
    amount = pose.yaw if sideways else pose.pitch
    toward = ("right" if amount > 0 else "left") if sideways else ("up" if amount > 0 else "down")
    expression = pose.expression_name
    return {
        "orientation": pose.orientation,
        "degree": pose.degree or "clearly",
        "lean": toward if abs(amount) >= LEANING else "none",
        "expression": expression,
        "intensity": "faint" if expression != "neutral" and pose.intensity < PLAIN else "plain",
        **{key: getattr(character, key) for key in VALUES if hasattr(character, key)},
        "earrings": "yes" if character.earrings else "no",
        "eye_color": "hidden" if expression == "laughing" else character.eye_color,
    }


WAY = {"left": "to the left", "right": "to the right", "up": "upward", "down": "downward"}
COMPASS = {"left": "west", "right": "east"}
LEANS = {"left": "leftward", "right": "rightward", "up": "skyward", "down": "earthward"}
TURNED = {
    "slightly": "the farther cheek is only a little narrower than the nearer one",
    "clearly": "the farther cheek has become narrow, with the features moved towards that edge of the head",
    "far": "the farther cheek has nearly gone from view, with one eye at the very edge of the face",
}
RAISED = {
    "slightly": "the features sit just a little higher on the head than they would in a level view",
    "clearly": "the features sit high on the head, and more of the jaw than of the forehead is seen",
    "far": "the features have moved close to the top of the head, and the jaw fills the lower half",
}
LOWERED = {
    "slightly": "the features sit just a little lower on the head than they would in a level view",
    "clearly": "the features sit low on the head, and more of the hairline than of the chin is seen",
    "far": "the features have moved close to the chin, and the top of the head fills the upper half",
}
FEELING = {
    "neutral": {"plain": "nothing is raised, pulled or pressed together, and no feeling can be read from it"},
    "smiling": {
        "faint": "the corners of the mouth have only just begun to rise",
        "plain": "the corners of the mouth are drawn up into a wide and friendly curve",
    },
    "laughing": {
        "faint": "the mouth has begun to open, and the cheeks are on their way up",
        "plain": "the mouth is thrown wide open with teeth and tongue in sight, and the whole face joins in",
    },
    "sad": {
        "faint": "the corners of the mouth have only just begun to sink",
        "plain": "the corners of the mouth hang far down, and the whole face seems heavy",
    },
    "surprised": {
        "faint": "the mouth has begun to round itself, and the brows have started to rise",
        "plain": "the mouth has dropped open into a dark round hole, and the brows have jumped up",
    },
    "angry": {
        "faint": "the brows have only just begun to draw together",
        "plain": "the brows are pulled together and down towards the nose, and the teeth are gritted",
    },
    "winking": {
        "faint": "one eye has begun to narrow while the other stays open",
        "plain": "one eye is squeezed shut while the other one looks on",
    },
}
BROWS = {
    "neutral": "The brows lie flat, the eyes are open to an ordinary width, and the lips form a nearly straight line.",
    "smiling": "The brows are relaxed, the eyes are open and bright, and the lips part over the upper row of teeth.",
    "laughing": "The brows are lifted, the eyes are squeezed into two dark arcs, and the lips are stretched wide.",
    "sad": "The inner ends of the brows are raised, the upper lids droop, and the lips bend downward like a bridge.",
    "surprised": "The brows form two high arches, the eyes are wide with white all around, and the lips make a ring.",
    "angry": "The brows slope down towards the middle, the eyes are narrowed, and the lips are pulled apart.",
    "winking": "The brow above the shut eye comes down, the other brow goes up, and the lips curl to one side.",
}
MOOD = {
    "neutral": ("calm and composed", "quiet and attentive", "patient and hard to read"),
    "smiling": ("warm and welcoming", "friendly and content", "cheerful and at ease"),
    "laughing": ("full of delight", "merry and carefree", "amused beyond words"),
    "sad": ("gloomy and let down", "sorrowful and tired", "lonely and downcast"),
    "surprised": ("startled and amazed", "astonished and wide awake", "caught unprepared"),
    "angry": ("cross and tense", "furious and unyielding", "irritated and stern"),
    "winking": ("playful and sly", "teasing and familiar", "mischievous and sure of itself"),
}
SKIN = {
    "porcelain": "The skin is porcelain, so pale that the blush on the cheeks stands out",
    "fair": "The skin is fair, with a soft rosy warmth on the cheeks",
    "olive": "The skin is olive, with a golden undertone all over",
    "tan": "The skin is tan, as after a long summer in the sun",
    "brown": "The skin is brown, even and warm from the forehead to the neck",
    "dark": "The skin is dark, deep and rich from the forehead to the neck",
}
HAIR = {
    "bald": "The head is bald and smooth, and the {color} eyebrows are what tells the colour of the hair.",
    "short": "The {color} hair is short and neatly cut, following the outline of the skull above the ears.",
    "spiky": "The {color} hair is spiky, standing up from the head in a row of pointed tufts.",
    "curly": "The {color} hair is curly, a lively mass of round locks around the top of the head.",
    "afro": "The {color} hair is worn as an afro, a large round cloud that surrounds the whole head.",
    "bob": "The {color} hair is cut as a bob that ends in a straight edge near the jaw.",
    "long": "The {color} hair is long and falls past the neck down to the shoulders on both sides.",
    "ponytail": "The {color} hair is tied into a ponytail, gathered behind the head and hanging to one side.",
    "bun": "The {color} hair is put up into a bun, a round knot that sits on top of the head.",
}
HAIR_COLOR = {
    "black": "Its black is as dark as ink and swallows most of the light.",
    "brown": "Its brown reminds one of chestnuts and polished wood.",
    "blond": "Its blond is a bright and sunny yellow that catches the light.",
    "red": "Its red glows like copper and is the first thing one notices.",
    "grey": "Its grey is silvery and gives the face a certain dignity.",
    "pink": "Its pink is plainly dyed and gives the face a bold touch.",
}
EYES = {
    "brown": "brown eyes like two hazelnuts",
    "blue": "blue eyes like a summer sky",
    "green": "green eyes like moss in a forest",
    "hidden": "eyes that are closed",
}
GLASSES = {
    "none": "There are no glasses, so nothing stands between the viewer and {eyes}.",
    "round": "A pair of round glasses with thin rims sits on the nose, with {eyes} behind the lenses.",
    "square": "A pair of square glasses with straight rims sits on the nose, with {eyes} behind the lenses.",
}
FACIAL_HAIR = {
    "female": {"none": "The cheeks and the chin are smooth, and the jaw has a soft, rounded line."},
    "male": {
        "none": "The face is clean-shaven, and the jaw has a firm, broad line.",
        "moustache": "A thick moustache covers the upper lip, while the chin and the cheeks are shaved.",
        "beard": "A full beard covers the chin and the cheeks and frames the mouth.",
    },
}
TOP = {
    "red": "vivid as a ripe tomato",
    "orange": "warm as a pumpkin",
    "yellow": "bright as a lemon",
    "green": "fresh as spring grass",
    "blue": "deep as the sea",
    "purple": "rich as lavender",
    "white": "clean as new snow",
    "black": "sober as midnight",
}
HEADWEAR = {
    "none": "Nothing is worn on the head",
    "headband": "A headband in the same colour runs across the hair",
    "beanie": "A knitted beanie in the same colour is pulled over the head",
}
EARRINGS = {"no": "there are no earrings to be seen", "yes": "a small earring shines at the ear"}
PERSON = {"female": ("woman", "She", "her"), "male": ("man", "He", "his")}
STYLE = (
    "The picture is a simple portrait with clean outlines and soft shading, before a plain and light background.",
    "It is drawn like a cartoon, in round shapes with thin dark outlines, on a background that is plain and light.",
    "The drawing keeps to smooth shapes and few colours, and the plain background leaves all attention to the face.",
)


def caption(facts: Facts) -> str:
    """A description in 200 to 280 words. What moves comes first: orientation, then expression, then the character."""
    f = facts
    person, they, their = PERSON[f["gender"]]
    top = f"{_article(f['top_color'])} top as {TOP[f['top_color']]}"
    mood = _vary(MOOD[f["expression"]], f["top_color"])
    sentences = [
        _orientation(f),
        f"The expression is {_shown(f)}: {FEELING[f['expression']][f['intensity']]}.",
        BROWS[f["expression"]],
        f"The mood of the picture is {mood}.",
        _vary(
            (
                f"The portrait shows a {person} from the shoulders up, with a round head on a slender neck.",
                f"The person is a {person}, seen from the shoulders up and placed in the middle of the picture.",
                f"One sees the head and the shoulders of a {person}, who fills most of the frame.",
            ),
            f["skin"],
        ),
        SKIN[f["skin"]] + ".",
        HAIR[f["hair_style"]].format(color=f["hair_color"]),
        HAIR_COLOR[f["hair_color"]],
        GLASSES[f["glasses"]].format(eyes=EYES[f["eye_color"]]),
        FACIAL_HAIR[f["gender"]][f["facial_hair"]],
        _vary(
            (
                f"{they} is dressed in {top} that has a simple neckline.",
                f"{they} wears {top}, without any pattern and cut close around the neck.",
                f"Below the neck begins {top}, plain and comfortable, that covers {their} shoulders.",
            ),
            f["eye_color"],
        ),
        f"{HEADWEAR[f['headwear']]}, and {EARRINGS[f['earrings']]}.",
        _vary(STYLE, f["hair_color"]),
        _vary(
            (
                f"All in all, this is a {person} whom one would recognise by {_marks(f)}.",
                f"What stays in mind of this {person} is above all {_marks(f)}.",
                f"Whoever looks for this {person} again should remember {_marks(f)}.",
            ),
            f["hair_style"],
        ),
    ]
    return " ".join(sentences)


def summary(facts: Facts, max_words: int = 50) -> str:
    """Two or three short sentences of under `max_words` words; orientation and expression are kept before all else."""
    first, lean = _beginning(facts)
    _, they, _ = PERSON[facts["gender"]]
    has, wears = (list(texts.values()) for texts in _looks(facts))
    texts = (
        f"{first}{lean}. {they} has {_series(has)}. {they} wears {_series(wears)}.",
        f"{first}{lean}. {they} has {_series(has)}.",
        f"{first}. {they} has {_series(has[:2])}.",
        f"{first}.",
    )
    level = 0 if max_words >= 45 else 1 if max_words >= 30 else 2 if max_words >= 20 else 3
    return texts[level]


def keywords(facts: Facts, rng: np.random.Generator) -> tuple[str, Facts]:
    """The beginning of the summary and some of the rest, in any order, between commas; and what that says."""
    first, lean = _beginning(facts)
    they = PERSON[facts["gender"]][1].lower()
    looks = [
        (keys, f"{they} {verb} {text}" if rng.random() < 0.3 else text)
        for verb, texts in zip(("has", "wears"), _looks(facts), strict=True)
        for keys, text in texts.items()
    ]
    chosen = [looks[i] for i in rng.permutation(len(looks))[: rng.integers(len(looks))]]
    told = ["orientation", "degree", "lean", "expression", "intensity", "gender"]
    told += [key for keys, _ in chosen for key in keys]
    text = ", ".join([first + lean, *(text for _, text in chosen)])
    return text + "." * int(rng.random() < 0.5), {key: facts[key] for key in told}


def _beginning(facts: Facts) -> tuple[str, str]:
    facing = {"up": "upward", "down": "downward"}.get(facts["orientation"], facts["orientation"])
    degree = {"slightly": "Slightly ", "clearly": "", "far": "Far "}[facts["degree"]] if facing != "front" else ""
    person = PERSON[facts["gender"]][0]
    first = f"{degree}{facing}-facing {person} with {_article(_shown(facts))} expression".capitalize()
    return first, "" if facts["lean"] == "none" else f", leaning {WAY[facts['lean']]}"


def _looks(facts: Facts) -> tuple[dict[tuple[str, ...], str], dict[tuple[str, ...], str]]:
    """What somebody has, and what somebody wears: which facts are told → how."""
    has = {("hair_style", "hair_color"): _hair(facts), ("skin",): f"{facts['skin']} skin"}
    if facts["eye_color"] != "hidden":
        has["eye_color",] = f"{facts['eye_color']} eyes"
    if facts["glasses"] != "none":
        has["glasses",] = f"{facts['glasses']} glasses"
    if facts["facial_hair"] != "none":
        has["facial_hair",] = _article(facts["facial_hair"])
    wears: dict[tuple[str, ...], str] = {("top_color",): _article(f"{facts['top_color']} top")}
    if facts["headwear"] != "none":
        wears["headwear",] = _article(facts["headwear"])
    if facts["earrings"] == "yes":
        wears["earrings",] = "earrings"
    return has, wears


def _orientation(f: Facts) -> str:
    way, degree = f["orientation"], f["degree"]
    lean = LEANS.get(f["lean"])
    most = ", almost as much as it can be" if degree == "far" else ""
    if way == "front":
        first = "The face is front-facing: it looks straight out of the picture, and both cheeks are seen equally well."
        return f"{first} " + (f"The head drifts a hint {lean}." if lean else "The head is held level and upright.")
    if way in ("left", "right"):
        points = f"the nose points {way}, where a map has its {COMPASS[way]}"
        first = f"The face is turned {degree} to the {way} of the picture{most}: {points}, and {TURNED[degree]}."
    elif way == "up":
        first = f"The face is tilted {degree} upward{most}: the chin is lifted, {RAISED[degree]}."
    else:
        first = f"The face is tilted {degree} downward{most}: the chin is lowered, {LOWERED[degree]}."
    return f"{first} " + (f"It leans a little {lean} as well." if lean else "It keeps to that one direction.")


def _shown(f: Facts) -> str:
    return f["expression"] if f["intensity"] == "plain" else f"faintly {f['expression']}"


def _hair(f: Facts) -> str:
    style, color = f["hair_style"], f["hair_color"]
    if style == "bald":
        return f"a bald head with {color} brows"
    return f"a {color} {style}" if style in ("afro", "bob", "ponytail", "bun") else f"{style} {color} hair"


def _marks(f: Facts) -> str:
    marks = [_hair(f), f"the {f['skin']} skin"]
    marks += [f"the {f['glasses']} glasses"] * (f["glasses"] != "none")
    marks += [f"the {f['facial_hair']}"] * (f["facial_hair"] != "none")
    return _series(marks)


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _series(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _vary(options: tuple[str, ...], value: str) -> str:
    """One of `options`, decided by a visible value."""
    return options[sum(map(ord, value)) % len(options)]
