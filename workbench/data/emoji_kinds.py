"""Visual kinds: emoji concepts merged into classes by what a drawing of them looks like.

Unicode's subgroups mix things that share a use, not a look ("office" holds scissors, folders and bar charts), and
split things that share a look ("food-fruit" and "food-vegetable"). A kind is a subgroup where that is a visual
category already, several merged, or a hand-made list. Concepts of no kind are left out of the classification task.
"""

from __future__ import annotations

_BY_SUBGROUP = {
    "animal-amphibian": "bug-or-reptile",
    "animal-bird": "bird",
    "animal-bug": "bug-or-reptile",
    "animal-mammal": "mammal",
    "animal-marine": "sea-animal",
    "animal-reptile": "bug-or-reptile",
    "award-medal": "sport",
    "book-paper": "paper",
    "clothing": "clothing",
    "drink": "drink",
    "food-asian": "dish",
    "food-fruit": "produce",
    "food-prepared": "dish",
    "food-sweet": "dish",
    "food-vegetable": "produce",
    "light-video": "device",
    "lock": "tool",
    "mail": "paper",
    "money": "paper",
    "musical-instrument": "instrument",
    "place-building": "building",
    "place-geographic": "scenery",
    "place-religious": "building",
    "plant-flower": "plant",
    "plant-other": "plant",
    "sound": "device",
    "sport": "sport",
    "time": "clock",
    "tool": "tool",
    "transport-air": "vehicle",
    "transport-water": "vehicle",
    "writing": "tool",
}

_BY_NAME = {
    "plant": "christmas-tree pine-decoration tanabata-tree",
    "tool": "kitchen-knife scissors straight-ruler triangular-ruler syringe",
    "paper": "memo bar-chart calendar card-index chart-decreasing chart-increasing clipboard spiral-calendar "
    "spiral-notepad card-file-box card-index-dividers file-folder open-file-folder "
    "chart-increasing-with-yen musical-score world-map ticket admission-tickets",
    "clothing": "money-bag briefcase ice-skate running-shirt martial-arts-uniform",
    "device": "desktop-computer laptop keyboard printer television radio fax-machine pager video-game mobile-phone "
    "mobile-phone-with-arrow telephone telephone-receiver",
    "scenery": "bridge-at-night cityscape cityscape-at-dusk foggy night-with-stars sunrise "
    "sunrise-over-mountains sunset tent circus-tent milky-way",
    "weather": "cloud cloud-with-lightning cloud-with-lightning-and-rain cloud-with-rain cloud-with-snow fog "
    "rainbow snowflake snowman snowman-without-snow sun-behind-cloud sun-behind-large-cloud "
    "sun-behind-rain-cloud sun-behind-small-cloud tornado umbrella umbrella-on-ground "
    "umbrella-with-rain-drops closed-umbrella wind-face",
    "moon-and-star": "crescent-moon first-quarter-moon first-quarter-moon-face full-moon full-moon-face glowing-star "
    "last-quarter-moon last-quarter-moon-face new-moon new-moon-face star sun sun-with-face "
    "waning-crescent-moon waning-gibbous-moon waxing-crescent-moon waxing-gibbous-moon comet shooting-star",
    "vehicle": "bullet-train high-speed-train light-rail locomotive metro monorail mountain-railway railway-car "
    "station train tram tram-car suspension-railway ambulance articulated-lorry automobile bicycle bus "
    "delivery-truck fire-engine kick-scooter minibus motor-scooter motorcycle oncoming-automobile oncoming-bus "
    "oncoming-police-car oncoming-taxi police-car racing-car sport-utility-vehicle taxi tractor trolleybus",
    "sport": "pool-8-ball",
}

_NONE = (
    "paw-prints pig-nose spider-web seat anchor satellite glasses sunglasses lipstick gem-stone ring prayer-beads "
    "label magnifying-glass-tilted-left magnifying-glass-tilted-right light-bulb candle flashlight "
    "red-paper-lantern film-frames ballot-box-with-ballot package cooking watch "
    "hourglass-done hourglass-not-done flag-in-hole goal-net love-hotel"
)

_NAMED = {name: kind for kind, names in _BY_NAME.items() for name in names.split()}
_EXCLUDED = frozenset(_NONE.split())


def kind_of(concept: str, subgroup: str) -> str | None:
    """The visual kind of a concept, or None where it has none.

    Example:
        >>> kind_of("red-apple", "food-fruit"), kind_of("paw-prints", "animal-mammal")
        ('produce', None)
    """
    if concept in _EXCLUDED:
        return None
    return _NAMED.get(concept) or _BY_SUBGROUP.get(subgroup)
