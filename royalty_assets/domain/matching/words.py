"""What decisions mean, in words that people at a desk use."""

METHOD_WORDS = {
    "rule": "a person decided it",
    "isrc": "its ISRC is in the catalog",
    "upc_title": "its UPC and title are those of one recording",
    "title_artist_equal": "its title and artist are those of one recording",
    "title_artist_similar": "its title and artist are close to one recording's, and to no other's",
    "title_artist_album": "several recordings have its name, and one of them is on its release",
    "exception": "it is open",
}
REASON_WORDS = {
    "isrc_unknown": "it has no title, and no ISRC that the catalog knows",
    "no_candidate": "nothing in the catalog comes near",
    "too_different": "the nearest recording is too different",
    "number_in_title_differs": "the nearest title has another number",
    "version_differs": "the nearest recording is another version (live, remix, karaoke …)",
    "ambiguous": "several recordings come equally near",
    "no_right_at_territory_and_date": "no right covers that territory on that day",
    "rejected_by_rule": "a person said that it is none of the catalog's",
    "rule_names_no_recording": "a person decided it, but the catalog no longer has the recording",
}


def levels_in_words(levels: str | None) -> list[str]:
    """``title:equal artist:far`` as "title equal", "artist far"."""
    return [word.replace(":", " ") for word in (levels or "").split()]


def reason_in_words(reason: str | None) -> str:
    """Why the matcher left it open; a reason that has no words stands as it is."""
    return REASON_WORDS.get(reason or "", reason or "")


def method_in_words(method: str) -> str:
    """How it was decided."""
    return METHOD_WORDS.get(method, method)
