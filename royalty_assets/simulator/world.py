"""The simulated catalog: recordings with splits and territorial rights, as tables and CSV files.

Names are made of plain words, with the variety that makes matching hard: accents, featured
artists, remixes and live takes, the same title by different artists, two ISRCs for one name.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from royalty_assets.simulator.scenario import Scenario

_ADJECTIVES = """
    amber ancient autumn bitter blue bold broken burning calm carmine clear cold crimson crooked
    daring distant dusty eager early electric empty endless fading fallen fearless first foreign
    forgotten fragile frozen gentle ghostly gilded glass golden grey hazy heavy hidden hollow
    honest humble icy idle infinite inner ivory jaded kind last late lavender lazy liquid little
    lonely lost loud lucid lunar magnetic marble mellow midnight misty modern molten naked
    narrow neon nervous new northern old open pale paper patient perfect plastic polar proud
    purple quiet rapid rare reckless restless rising rough royal rusty sacred scarlet secret
    shallow silent silver simple sleepless slow small soft solar southern spare stolen strange
    subtle sudden sweet tall tender thin thirsty tidal tiny torn twisted upper vacant velvet
    violet vivid wandering warm weary western white wicked wild winter wooden yellow young
""".split()
_NOUNS = """
    afternoon airport anchor angel answer april arrow ashes avenue balcony ballad bandit beacon
    bicycle bird border boulevard bridge brother bullet butterfly cabin cage camera canyon
    carnival castle cathedral ceiling chain chapel cinema circle city cloud coast compass corner
    cradle crown curtain dagger dance daughter dawn desert diamond diary dinner distance doorway
    dream driver echo elevator ember empire engine evening fable father feather fever fiction
    field fire flame flood flower forest fortune fountain future garden ghost giant glacier
    gravity guitar habit harbor harvest heart heaven highway holiday horizon hotel hunter
    hurricane island january jewel journey juliet kingdom kitchen ladder lantern laughter
    leather letter library lighthouse lightning lion lover machine magnet mansion marathon
    market memory mercury meridian mile miracle mirror moment monster monument morning mother
    motel mountain museum mystery needle neighbor november ocean october orchard orchid palace
    paradise parade passenger pavement pearl phantom phone photograph piano picture pilot planet
    playground pocket poem poison portrait postcard prayer prisoner promise promenade puzzle
    quarter radio rainbow raven reason rebel remedy rhythm ribbon rider river rocket romance
    rose runaway sailor satellite saturday scandal season shadow shelter signal silence sister
    skyline slipper smoke snow soldier song spark spirit stairway station statue stone storm
    stranger street summer sunday sunrise symphony telegraph television temple theater thief
    thunder ticket tiger token tomorrow tower traffic train traveler treasure tunnel umbrella
    universe valley vampire vanity victory village violin visitor volcano voyage waltz warning
    water weekend whisper window wire witness wolf wonder yesterday
""".split()
_GIVEN = """
    Ada Amara Anaïs André Beatriz Bruno Camila Chloé Dario Elena Emre Fatima Félix Greta Hana
    Hugo Ida Ines Ivan Jamal Joana José Kaito Lena Léo Lucía Maja Marek Mia Mina Nadia Noé Olga
    Omar Paulo Petra Quinn Rafa René Rosa Sami Sofía Søren Tariq Tessa Uma Viktor Wanda Yara Zoë
""".split()
_FAMILY = """
    Abara Almeida Andersson Baptiste Berger Bianchi Borg Castillo Cho Costa Dubois Eklund
    Esposito Farouk Fischer Fontaine Garcia Haas Herrera Ibarra Ito Jansen Kaya Keller Kovač
    Laurent Lindqvist Lopes Marchetti Mensah Moreau Müller Nakamura Nováková Okafor Olsen Öztürk
    Park Petrov Quiroga Ramos Rossi Sato Schäfer Silva Svensson Tanaka Torres Vega Weber Yildiz
    Zhang
""".split()
_LABELS = """
    Arcadia Bellwether Candlelight Dovetail Evergreen Foxglove Gramercy Halcyon Ironwood Juniper
    Kestrel Lodestar Marigold Nightjar Obelisk Pinecrest Quicksilver Rosewood Saltwater Tamarind
""".split()

_RIGHTS = (
    "Worldwide",
    "Worldwide -US -CA",
    "Worldwide -JP",
    "DE|AT|CH|FR|NL|SE|ES|GB",
    "US|CA|MX|BR",
)
_RIGHTS_WEIGHTS = (0.92, 0.03, 0.02, 0.02, 0.01)


@dataclass(frozen=True, slots=True)
class World:
    """A catalog to use music from.

    Attributes:
        recordings: recording_id, isrc, title, artist.
        shares: recording_id, rights_holder_id, rights_holder_name, share (percent, as text).
        rights: recording_id, territories, valid_from, valid_to (as text).
        popularity: cumulative probability of each recording, in row order (Zipf, s = 0.9).
    """

    recordings: pl.DataFrame
    shares: pl.DataFrame
    rights: pl.DataFrame
    popularity: np.ndarray[tuple[int], np.dtype[np.float64]]


def make_world(scenario: Scenario) -> World:
    """The scenario's catalog."""
    generator = scenario.generator("world")
    number = scenario.recordings
    artists = _artists(generator, max(number // 8, 4))
    artist_of = generator.integers(0, len(artists), number)
    recordings = pl.DataFrame(
        {
            "recording_id": [f"R{i:07d}" for i in range(number)],
            "isrc": _isrcs(generator, number),
            "title": _titles(generator, number, artists),
            "artist": [artists[i] for i in artist_of],
        }
    )
    weights = 1.0 / np.arange(1, number + 1) ** 0.9
    popularity = np.cumsum(generator.permutation(weights))
    return World(
        recordings,
        _shares(generator, recordings),
        _rights(generator, recordings),
        popularity / popularity[-1],
    )


def write_catalog(world: World, folder: Path) -> None:
    """Write the catalog as the three CSV files that the pipeline reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("recordings", "shares", "rights"):
        getattr(world, name).write_csv(folder / f"{name}.csv")


def _artists(generator: np.random.Generator, number: int) -> list[str]:
    given = generator.integers(0, len(_GIVEN), number)
    family = generator.integers(0, len(_FAMILY), number)
    nouns = generator.integers(0, len(_NOUNS), number)
    is_band = generator.random(number) < 0.3
    return [
        f"The {_ADJECTIVES[g + f]} {_NOUNS[n]}s".title() if band else f"{_GIVEN[g]} {_FAMILY[f]}"
        for g, f, n, band in zip(given, family, nouns, is_band, strict=True)
    ]


def _isrcs(generator: np.random.Generator, number: int) -> list[str]:
    """Distinct well-formed ISRCs; the two digits of the year are part of the running number."""
    prefixes = ("QZABC", "GBXYZ", "DEA12", "USRC1", "FRZ03", "SEYOK")
    serial = generator.permutation(4 * number)[:number]
    prefix = generator.integers(0, len(prefixes), number)
    return [f"{prefixes[p]}{s:07d}" for p, s in zip(prefix, serial, strict=True)]


def _titles(generator: np.random.Generator, number: int, artists: list[str]) -> list[str]:
    adjective = generator.integers(0, len(_ADJECTIVES), number)
    nouns = generator.integers(0, len(_NOUNS), (number, 2))
    form = generator.random(number)
    extra = generator.random(number)
    guest = generator.integers(0, len(artists), number)
    titles = []
    for i in range(number):
        first, second = _NOUNS[nouns[i, 0]], _NOUNS[nouns[i, 1]]
        if form[i] < 0.5:
            title = f"{_ADJECTIVES[adjective[i]]} {first}"
        elif form[i] < 0.85:
            title = f"{first} of the {_ADJECTIVES[adjective[i]]} {second}"
        else:
            title = f"{first} & {second}"
        title = title.capitalize() if extra[i] < 0.2 else title.title()
        if 0.70 < extra[i] < 0.80:
            title += f" (feat. {artists[guest[i]]})"
        elif 0.80 < extra[i] < 0.83:
            title += f" - {artists[guest[i]].split()[-1]} Remix"
        elif 0.83 < extra[i] < 0.85:
            title += " (Live)"
        titles.append(title)
    return titles


def _shares(generator: np.random.Generator, recordings: pl.DataFrame) -> pl.DataFrame:
    """An artist, a label and perhaps a producer; one in a thousand adds up to 99 %."""
    number = recordings.height
    label = generator.integers(0, len(_LABELS), number)
    form = generator.random(number)
    rows: list[tuple[str, str, str, str]] = []
    for i, (recording_id, artist) in enumerate(
        recordings.select("recording_id", "artist").iter_rows()
    ):
        label_name = f"{_LABELS[label[i]]} Records"
        holders = [(f"artist:{_slug(artist)}", artist), (f"label:{_slug(label_name)}", label_name)]
        if form[i] < 0.001:
            split = ["50", "49"]
        elif form[i] < 0.7:
            split = ["25", "75"] if form[i] < 0.4 else ["50", "50"]
        else:
            given = _GIVEN[(label[i] * 7 + i) % len(_GIVEN)]
            producer = f"{given} {_FAMILY[(label[i] * 3 + i) % len(_FAMILY)]}"
            holders.append((f"producer:{_slug(producer)}", producer))
            split = ["33.333333", "33.333333", "33.333334"] if form[i] < 0.85 else ["20", "75", "5"]
        rows += [(recording_id, *holder, part) for holder, part in zip(holders, split, strict=True)]
    schema = ["recording_id", "rights_holder_id", "rights_holder_name", "share"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _rights(generator: np.random.Generator, recordings: pl.DataFrame) -> pl.DataFrame:
    form = generator.choice(len(_RIGHTS), recordings.height, p=_RIGHTS_WEIGHTS)
    return pl.DataFrame(
        {
            "recording_id": recordings["recording_id"],
            "territories": [_RIGHTS[i] for i in form],
            "valid_from": ["2015-01-01"] * recordings.height,
            "valid_to": [""] * recordings.height,
        }
    )


def _slug(name: str) -> str:
    return "-".join(name.lower().split())
