"""Labelled examples as senders would make them, from a seed: the same each time."""

import random

_FIRST = "silver broken midnight golden hollow distant paper crimson electric wooden".split()
_SECOND = "river engine garden mirror harbour signal orchard lantern winter machine".split()
_ARTISTS = [
    "The Copper Foxes", "Anna Lindqvist", "Marble Arch", "Téo Duarte", "North & Sons",
    "Iris Okafor", "DJ Pelican", "Quiet Machines", "Rosa Blanco", "The Ninth Ward",
]  # fmt: skip


def typo(text, chance):
    """One letter lost, doubled or swapped with the next."""
    at = chance.randrange(max(len(text) - 1, 1))
    kind = chance.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at : at + 1] + text[at:]
    return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]


def clustered(recordings=20, seed=1):
    """Three records for each recording: tidy, with a typo, and with fields run together."""
    chance = random.Random(seed)
    rows = []
    for recording in range(recordings):
        title = f"{chance.choice(_FIRST)} {chance.choice(_SECOND)} {chance.choice(_SECOND)}".title()
        artist = chance.choice(_ARTISTS)
        album = f"{chance.choice(_FIRST)} {chance.choice(_FIRST)}".title()
        number, year = chance.randrange(1, 20), chance.randrange(1970, 2020)
        tidy = {
            "cluster": f"c{recording}",
            "number": str(number),
            "title": title,
            "artist": artist,
            "album": album,
            "year": str(year),
            "language": "English",
        }
        rows.append(tidy)
        rows.append(
            tidy | {"title": typo(title, chance), "album": f"{album} ({year})", "year": "null"}
        )
        rows.append(
            tidy | {"title": f"{number:03d}-{title}", "artist": artist.upper(), "language": "eng"}
        )
    chance.shuffle(rows)
    return [{"id": str(at), **row} for at, row in enumerate(rows)]


def songs(count=12, seed=1):
    """Songs with all fields of a pair."""
    chance = random.Random(seed)
    return [
        {
            "title": f"{chance.choice(_FIRST)} {chance.choice(_SECOND)} {at % 7}".title(),
            "artist": chance.choice(_ARTISTS),
            "album": f"{chance.choice(_FIRST)} nights".title(),
            "price": "$ 1.29",
            "copyright": f"( C ) 20{at % 10 + 10} Test Records",
            "duration": f"{chance.randrange(2, 6)}:{chance.randrange(60):02d}",
            "released": f"{chance.randrange(1, 28)}-May-{at % 10 + 10}",
        }
        for at in range(count)
    ]


def labelled_pairs(count=30, seed=1):
    """Of each song: itself with a typo, its remix, and another song of the same artist."""
    chance = random.Random(seed)
    pairs, labels = [], []
    for song in songs(count, seed):
        same = song | {"title": typo(song["title"], chance), "price": "$ 0.99"}
        remix = song | {"title": f"{song['title']} ( Pelican Remix )", "duration": "7:45"}
        other = song | {"title": f"{chance.choice(_SECOND)} song".title(), "duration": "1:01"}
        pairs += [(song, same), (song, remix), (song, other)]
        labels += [True, False, False]
    return pairs, labels
