"""Reading one DSR flat file: HEAD, summaries, body, FOOT.

Usage records (``SU…`` in blocks, ``SR…`` by themselves) become usage lines; what a line does not
say itself comes from its block's resource and release and from its summary: territory, currency,
models. Usage without money of its own shares its summary's net revenue, as a pool. Records of a
block stand together, so that a file of any size is read in bounded memory.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from itertools import islice
from typing import get_args

import polars as pl

from royalty_assets.domain.money import (
    AmountError,
    currency_codes,
    format_atoms,
    parse_amount,
    to_atoms,
)
from royalty_assets.domain.notes import ISRC_SEVERAL, NOT_UTF8
from royalty_assets.domain.screening import ColumnReading
from royalty_assets.domain.territories import territory_of
from royalty_assets.domain.usage import USAGE_LINE_SCHEMA, CommercialModel, UseType
from royalty_assets.domain.validation import Rejection, SourceRow, reject
from royalty_assets.sources.cells import borders_of, joined, split_ragged
from royalty_assets.sources.dsr.records import (
    RecordLayout,
    known_record,
    layout_for,
    longest_record,
    record_layouts,
)
from royalty_assets.sources.reading import (
    CROSS_SUMS_AGREE,
    NAME_AGREES,
    TOTALS_AGREE,
    Message,
    ReadBlock,
    Totals,
    read_block,
)
from royalty_assets.sources.templates import ISO_DATES
from royalty_assets.sources.text_lines import LineBlock, TextLines, UnreadableFileError
from royalty_assets.sources.written import (
    plain_column,
    read_amount,
    read_date,
    read_tier,
    read_whole_number,
    word_reader,
)

HEADS = ("HEAD", "SRHE")
_FEET = ("FOOT", "SRFO")
_HEAD_LINES_MAX = 20
_BLOCK_LINES_MAX = 2_000_000
_KEPT = 2000
_FINDINGS_MAX = 20

_PROFILES = {
    "basicaudioprofile": "dsr_basic_audio",
    "basicaudioprofilesrb": "dsr_basic_audio",
    "ugcprofile": "dsr_ugc",
    "ugcprofilesrb": "dsr_ugc",
    "financialreportingtorecordcompaniesprofilesrb": "dsr_financial_reporting",
    "financialreportingtorecordcompaniesprofile": "dsr_financial_reporting",
}
_SHARES_POOLS = frozenset({"dsr_basic_audio"})

# What a usage line's fields are called in the records of all versions.
_USAGE_CELLS: dict[str, tuple[str, ...]] = {
    "block": ("BlockId",),
    "summary": ("SummaryRecordId",),
    "transaction_id": ("SalesTransactionId",),
    "transacted_release": ("TransactedRelease",),
    "transacted_resource": ("TransactedResource",),
    "bearing": ("IsRoyaltyBearing",),
    "units": ("NetUsage", "NumberOfStreams", "Usages", "Downloads"),
    "total": ("TotalUsages",),
    "returns": ("Returns",),
    "amount": ("AllocatedNetRevenueInCurrencyOfAccounting", "AllocatedNetRevenue", "NetRevenue"),
    "used_on": ("SalesTransactionDate", "ValidityPeriodStart"),
    "use_type": ("UseType",),
    "isrc": ("ISRC", "ResourceISRC"),
    "upc": ("ICPN", "ReleaseICPN"),
    "grid": ("ReleaseGRid",),
    "iswc": ("ISWC",),
    "dsp_recording_id": ("DspResourceId",),
    "dsp_release_id": ("DspReleaseId",),
    "title": ("ResourceTitle",),
    "artist": ("ResourceDisplayArtistName", "ReleaseDisplayArtistName"),
    "release_title": ("ReleaseTitle",),
    "label": ("ReleaseLabel",),
}
_RESOURCE_CELLS: dict[str, tuple[str, ...]] = {
    "block": ("BlockId",),
    "reference": ("ResourceReference",),
    "dsp_recording_id": ("DspResourceId",),
    "isrc": ("ISRC",),
    "iswc": ("ISWC",),
    "title": ("Title",),
    "artist": ("DisplayArtistName",),
}
_RELEASE_CELLS: dict[str, tuple[str, ...]] = {
    "block": ("BlockId",),
    "reference": ("ReleaseReference",),
    "dsp_release_id": ("DspReleaseId",),
    "upc": ("ICPN",),
    "release_title": ("Title",),
    "release_artist": ("DisplayArtistName",),
    "label": ("Label",),
}
_NET = frozenset({"NetUsage"})


@dataclass(slots=True)
class _Summary:
    """What a summary id says, over all its records."""

    row_number: int
    territory: str
    tier: str
    use_type: str
    commercial_model: str
    currency: str
    usages: int = 0
    amounts: dict[tuple[str, str], int] = field(default_factory=dict)
    units_read: int = 0
    atoms_read: int = 0
    has_priced_lines: bool = False

    @property
    def atoms(self) -> int:
        """The net revenue, each record's once."""
        return sum(self.amounts.values())


class DsrFile:
    """One open DSR file.

    Args:
        source_sha256: of the file's bytes.
        text: its lines, from the first.
        name: the file's, which tells what HEAD tells too.

    Raises:
        UnreadableFileError: on opening without a HEAD that can be understood; while reading if
            the file breaks off, or ends without its FOOT.
    """

    def __init__(self, source_sha256: str, text: TextLines, name: str = "") -> None:
        self._sha256 = source_sha256
        self._text = text
        self.totals = Totals()
        self._head = self._read_head()
        self._foot: dict[str, str] | None = None
        self._summaries: dict[str, _Summary] = {}
        self._summary_records = 0
        self._bodies = 0
        self._name_findings = _name_differences(name, self._head)
        self._summary_texts: set[tuple[str, ...]] = set()
        self._broken: list[str] = []
        self._sum_findings: list[str] = []
        self._too_long: set[int] = set()
        self._not_utf8: set[int] = set()
        # What of these the file has at all; what it has not need not be looked for.
        self._signs: set[bytes] = set()

    @property
    def kind(self) -> str:
        """``dsr_`` and the profile."""
        return _kind(self._head["Profile"])

    @property
    def generation(self) -> str:
        """The profile's version."""
        return self._head["ProfileVersion"]

    @property
    def encoding(self) -> str:
        """Of the file; DSR asks for UTF-8."""
        return self._text.encoding

    @property
    def content_sha256(self) -> str:
        """A digest of the text that was read, however it was packed and named."""
        return self._text.content_sha256

    @property
    def message(self) -> Message:
        """The message's identity; (sender, message id) is the key of idempotency."""
        head = self._head
        return Message(
            head["SenderPartyId"],
            head["MessageId"],
            _as_instant(head["MessageCreatedDateTime"]),
            int(head["FileNumber"]),
            int(head["NumberOfFiles"]),
            f"{head['ServiceDescription']} {head['UsageStartDate']} {head['UsageEndDate']}",
        )

    @property
    def day(self) -> date | None:
        """The first day of use."""
        day = read_date(self._head["UsageStartDate"], ISO_DATES)
        return day if isinstance(day, date) else None

    @property
    def findings(self) -> dict[str, list[str]]:
        """Check → what breaks it, once all has been read."""
        return {
            TOTALS_AGREE: self._foot_differences() + self._broken,
            CROSS_SUMS_AGREE: self._sum_findings + self._sum_differences(),
            NAME_AGREES: self._name_findings,
        }

    @property
    def pools(self) -> list[SourceRow]:
        """The summaries' net revenue as pool rows, where usage shares it."""
        if self.kind not in _SHARES_POOLS:
            return []
        return [
            SourceRow(
                self._sha256,
                summary.row_number,
                {
                    "used_on": self.day,
                    "territory": summary.territory,
                    "tier": summary.tier,
                    "amount": format_atoms(summary.atoms),
                    "currency": summary.currency,
                    "summary_record_id": summary_id,
                },
            )
            for summary_id, summary in self._summaries.items()
            if summary.amounts and not summary.has_priced_lines
        ]

    # Reading

    def blocks(self) -> Iterator[ReadBlock]:
        """The file's usage lines and rejections."""
        waiting: pl.DataFrame | None = None
        for block in self._text.blocks():
            records = self._records(block)
            self._too_long |= block.too_long
            self._not_utf8 |= block.not_utf8
            self._signs |= {sign for sign in _SIGNS if sign in block.body}
            if waiting is not None:
                records = pl.concat([waiting, records], how="diagonal")
            records, waiting = _without_open_block(records)
            if waiting.height > _BLOCK_LINES_MAX:
                raise UnreadableFileError(
                    "dsr:block_too_large", f"a block has more than {_BLOCK_LINES_MAX:,} records"
                )
            yield from self._read(records)
        if waiting is not None and waiting.height:
            yield from self._read(waiting)
        if self._foot is None:
            raise UnreadableFileError(
                "dsr:no_foot", "there is no FOOT record: the file is not whole. Fetch it again"
            )

    def _records(self, block: LineBlock) -> pl.DataFrame:
        """Each line's ``number``, ``text``, ``borders`` (how many tabs it has) and cells.

        ``record`` (type, version included) and ``block`` are the first two cells, ``cell_2`` and
        so on the others, empty where the line has none.
        """
        lines = pl.DataFrame({"text": block.texts}).with_row_index("number", block.first)
        lines = lines.with_columns(
            pl.col("number").cast(pl.Int64),
            borders_of(block.body, "\t").alias("borders"),
        )
        body = block.body
        if (lines["text"] == "").any():
            lines = lines.filter(pl.col("text") != "")
            body = joined(lines["text"])
        most = int(lines.select(pl.col("borders").max().fill_null(0)).item())
        width = max(min(most, longest_record()) + 1, 2)
        wanted = [at for at in _wanted_positions(lines["text"]) if at < width]
        cells = split_ragged(body, "\t", width, wanted)
        if cells.height != lines.height:
            raise AssertionError(f"{lines.height} records fell into {cells.height} rows")
        return lines.with_columns(
            cells["cell_0"].alias("record"),
            cells["cell_1"].alias("block"),
            *cells.get_columns()[2:],
        )

    def _read(self, records: pl.DataFrame) -> Iterator[ReadBlock]:
        rejections: list[Rejection] = []
        if self._too_long:
            is_long = pl.col("number").is_in(list(self._too_long))
            told = "more than a million bytes; that is no record"
            rejections += self._refuse_all(records.filter(is_long), "record:too_long", told)
            records = records.filter(~is_long)
        types = records["record"].unique(maintain_order=True).to_list()
        for record_type in types:
            if not _is_body(record_type):
                self._read_frame(record_type, _of_type(records, record_type), rejections)
        records = self._with_block_numbers(records, types)
        resources = self._side_records(records, types, "AS", _RESOURCE_CELLS, rejections)
        releases = self._side_records(records, types, "RE", _RELEASE_CELLS, rejections)
        self.totals.lines += len(rejections)
        if rejections:
            yield ReadBlock(_no_lines(), rejections)
        for record_type in filter(_is_usage, types):
            for table, refused, layout in self._tables(record_type, records, _USAGE_CELLS):
                self.totals.lines += table.height + len(refused)
                if layout is None:
                    yield ReadBlock(_no_lines(), refused)
                else:
                    yield self._usage(layout, table, refused, resources, releases)

    def _with_block_numbers(self, records: pl.DataFrame, types: list[str]) -> pl.DataFrame:
        """``block_number`` beside each record of a block, since numbers are found faster."""
        is_in_block = records["record"].is_in([name for name in types if _IN_BLOCKS.match(name)])
        blocks = records["block"].filter(is_in_block)
        number = blocks.n_unique() if blocks.len() else 0
        self._bodies += number
        run = records["block"].rle_id()
        if run.filter(is_in_block).n_unique() == number:
            return records.with_columns(block_number=run)
        # The records of some block do not stand together.
        return records.with_columns(block_number=records["block"].rank("dense"))

    def _read_frame(
        self, record_type: str, lines: pl.DataFrame, rejections: list[Rejection]
    ) -> None:
        """Take in what frames the usage: FOOT and summaries; refuse what is no record."""
        base = record_type.partition(".")[0]
        if base in _FEET:
            self._read_foot(lines)
        elif base.startswith("SY"):
            self._read_summaries(lines, rejections)
        elif record_type.startswith("#") or (not record_type and _is_blank(lines)):
            return
        elif not known_record(base) or base in HEADS:
            rejections += [self._strange(row) for row in lines.to_dicts()]

    def _usage(
        self,
        layout: RecordLayout,
        table: pl.DataFrame,
        refused: list[Rejection],
        resources: pl.DataFrame,
        releases: pl.DataFrame,
    ) -> ReadBlock:
        """The lines of one type of usage record."""
        if "block" in table.columns:
            table = _with_release(_with_resource(table, resources), releases)
            table, lost = self._without_lost(table)
            refused = refused + lost
        table, unknown = self._with_summaries(table)
        refused = refused + unknown
        cells, several = self._line_cells(table)
        notes: dict[str, Collection[int]] = {
            NOT_UTF8: self._not_utf8 & set(cells["row_number"]) if self._not_utf8 else (),
            ISRC_SEVERAL: several,
        }
        read = read_block(
            self._sha256, cells, _readings(), self.totals, notes,
            may_hold_nul=b"\x00" in self._signs,
        )  # fmt: skip
        lines = read.lines
        if "total" in table.columns:
            self._check_net(table)
        is_gross = "returns" in table.columns and not _NET.intersection(layout.cells)
        if is_gross:
            # What is paid for is what stayed sold.
            returned = int(lines["returns"].sum())
            lines = lines.with_columns(units=pl.col("units") - pl.col("returns"))
            self.totals.units -= returned
        self._add_up(lines, table)
        return ReadBlock(lines, refused + read.rejections)

    def _check_net(self, table: pl.DataFrame) -> None:
        """Part 9: total usages less returns are the net usage."""
        number = pl.Decimal(38, 6)
        total, back, net = (
            table[name].replace("", "0").cast(number, strict=False)
            for name in ("total", "returns", "units")
        )
        wrong = table.filter((total - back != net) & (table["total"] != ""))
        self._sum_findings += [
            f"line {row['number']}: {row['total']} usages less {row['returns'] or 0} returns are "
            f"not {row['units']}"
            for row in wrong.head(_FINDINGS_MAX).to_dicts()
        ]

    def _line_cells(self, table: pl.DataFrame) -> tuple[pl.DataFrame, list[int]]:
        """The cells of usage lines, and the rows whose ISRC cell holds several."""
        empty = pl.lit("")
        has = table.columns
        head = self._head

        def cell(name: str, otherwise: pl.Expr = empty) -> pl.Expr:
            return pl.col(name) if name in has else otherwise

        is_free = cell("bearing").str.to_lowercase().is_in(["false", "0"])
        priced = pl.col("amount") if "amount" in has else empty
        # Money may come without a count of usages (SU03); it is told, with none.
        may_be_none = (cell("units") == "") & (priced != "") & pl.lit("total" not in has)
        units = pl.when(may_be_none).then(pl.lit("0"))
        amount = pl.when(is_free & (priced == "")).then(pl.lit("0")).otherwise(priced)
        used_on = cell("used_on")
        use_type = cell("use_type")
        cells = table.select(
            pl.col("number").alias("row_number"),
            _or(used_on, pl.lit(head["UsageStartDate"])).alias("used_on"),
            pl.lit(head["UsageStartDate"]).alias("reported_on"),
            cell("isrc").alias("isrc"),
            *(
                cell(name).alias(name)
                for name in ("upc", "grid", "dsp_recording_id", "label", "transaction_id")
            ),
            units.otherwise(cell("units")).alias("units"),
            *(cell(n).alias(n) for n in ("iswc", "title", "artist", "release_title")),
            pl.lit(head["SenderName"]).alias("store"),
            pl.col("territory"),
            pl.col("tier"),
            _or(use_type, pl.col("summary_use_type")).alias("use_type"),
            pl.col("commercial_model"),
            *([pl.col("returns")] if "returns" in has else []),
            amount.alias("amount"),
            pl.when(amount != "").then(pl.col("currency")).otherwise(empty).alias("currency"),
        )
        several: list[int] = []
        for name in ("isrc", "iswc") if b"|" in self._signs else ():
            holds_several = cells[name].str.contains("|", literal=True)
            if holds_several.any():
                several += cells.filter(holds_several)["row_number"].to_list()
                cells = cells.with_columns(_first_of(pl.col(name)).alias(name))
        if b"\\" in self._signs:
            escaped = ("title", "artist", "release_title")
            cells = cells.with_columns(_unescaped(pl.col(name)).alias(name) for name in escaped)
        return cells, several

    # Records into tables

    def _tables(
        self, record_type: str, records: pl.DataFrame, wanted: Mapping[str, tuple[str, ...]]
    ) -> Iterator[tuple[pl.DataFrame, list[Rejection], RecordLayout | None]]:
        """Records of one type by layout: the wanted cells (``_table_of``), and what is refused."""
        is_of_type = records["record"] == record_type
        for cells in sorted(records["borders"].filter(is_of_type).unique().to_list()):
            is_so = is_of_type & (records["borders"] == cells)
            layout = layout_for(record_type, cells)
            if layout is None:
                told = f"no version of {record_type} with {cells} cells is known"
                refused = self._refuse_all(records.filter(is_so), "dsr:record_version", told)
                yield _nothing(), refused, None
            elif cells < layout.cells_min:
                told = (
                    f"{record_type} has {cells} cells after its type, and needs {layout.cells_min}"
                )
                refused = self._refuse_all(records.filter(is_so), "record:cells", told)
                yield _nothing(), refused, None
            elif cells <= len(layout.cells):
                yield _table_of(records, is_so, layout, wanted), [], layout
            else:
                part = records.filter(is_so)
                beyond = part["text"].str.splitn("\t", len(layout.cells) + 2).struct[-1]
                is_full = beyond.str.contains(r"\S").fill_null(value=False)
                told = f"{record_type} has {cells} cells after its type, not {len(layout.cells)}"
                refused = self._refuse_all(part.filter(is_full), "record:cells", told)
                yield _table_of(part, ~is_full, layout, wanted), refused, layout

    def _side_records(
        self,
        records: pl.DataFrame,
        types: Iterable[str],
        base: str,
        wanted: Mapping[str, tuple[str, ...]],
        rejections: list[Rejection],
    ) -> pl.DataFrame:
        """The resources or releases of the blocks at hand; broken ones are refused."""
        parts = []
        for record_type in types:
            if not record_type.startswith(base) or not known_record(record_type):
                continue
            for table, refused, _ in self._tables(record_type, records, wanted):
                rejections += refused
                if "reference" not in table.columns:
                    continue
                missing = [name for name in wanted if name not in table.columns]
                parts.append(
                    table.with_columns(pl.lit("").alias(name) for name in missing).select(
                        "number", "block_number", *wanted
                    )
                )
        if not parts:
            return pl.DataFrame(schema=_NUMBERS | dict.fromkeys(wanted, pl.String))
        return pl.concat(parts).sort("number")

    def _refuse_all(self, lines: pl.DataFrame, rule: str, reason: str) -> list[Rejection]:
        return [self._refuse(row, rule, reason) for row in lines.to_dicts()]

    def _refuse(self, row: Mapping[str, object], rule: str, reason: str) -> Rejection:
        number = int(str(row["number"]))
        text = str(row["text"])[:_KEPT]
        source = SourceRow(self._sha256, number, {"line": text})
        return reject(source, rule, str(row["record"]), f"line {number}: {reason}")

    def _strange(self, row: Mapping[str, object]) -> Rejection:
        told = f"{row['record']!r} is no record of a DSR that is read here"
        return self._refuse(row, "dsr:record_unknown", told)

    # Summaries, HEAD and FOOT

    def _read_summaries(self, lines: pl.DataFrame, rejections: list[Rejection]) -> None:
        for row in lines.to_dicts():
            self._summary_records += 1
            texts = [cell.strip() for cell in str(row["text"]).split("\t")]
            layout = layout_for(str(row["record"]), len(texts) - 1)
            if layout is None or len(texts) - 1 < layout.cells_min:
                told = f"{row['record']} has {len(texts) - 1} cells; that is none that is known"
                self._broken.append(f"line {row['number']}: {told}")
                rejections.append(self._refuse(row, "record:cells", told))
                continue
            self._take_summary(int(row["number"]), layout, texts)

    def _take_summary(self, number: int, layout: RecordLayout, texts: list[str]) -> None:
        def cell(*names: str) -> str:
            at = layout.position(*names)
            return texts[at] if at is not None and at < len(texts) else ""

        summary_id = cell("SummaryRecordId")
        if (tuple(texts)) in self._summary_texts:
            return  # the same said twice
        self._summary_texts.add(tuple(texts))
        known = self._summaries.get(summary_id)
        if known is None:
            known = self._new_summary(number, summary_id, cell)
        usages = read_whole_number(cell("AllocatedUsages", "Usages", "TotalUsages") or "0", ".")
        if layout.position("AllocatedUsages") and not cell("AllocatedUsages"):
            usages = read_whole_number(cell("Usages", "TotalUsages") or "0", ".")
        known.usages += usages if isinstance(usages, int) else 0
        allocated = cell("AllocatedNetRevenueInCurrencyOfAccounting", "AllocatedNetRevenue")
        text = allocated or cell("NetRevenue", "NetRevenueInCurrencyOfAccounting")
        base = layout.record_type[:4]
        if not text or base == "SY05":  # allocations of what another record tells as a whole
            return
        try:
            atoms = to_atoms(parse_amount(text))
        except AmountError as error:
            self._broken.append(f"line {number}: the summary's net revenue: {error}")
            return
        if allocated:
            key = (base, cell("RightsController"))
            known.amounts[key] = known.amounts.get(key, 0) + atoms
        elif known.amounts.setdefault((base, ""), atoms) != atoms:
            # Each rights controller's record repeats the whole; it is the whole only once.
            self._broken.append(f"line {number}: summary {summary_id} has two net revenues")

    def _new_summary(self, number: int, summary_id: str, cell: Callable[..., str]) -> _Summary:
        territory = cell("Territory")
        currency = cell("CurrencyOfAccounting", "CurrencyOfReporting", "Currency").upper()
        if currency and currency not in currency_codes():
            self._broken.append(f"line {number}: no such currency: {currency}")
        if territory_of(territory) is None:
            self._broken.append(f"line {number}: no such territory: {territory}")
        # The name follows from what a summary is, not from which file tells it.
        parts = (("ServiceDescription", 11), ("UseType", 10), ("CommercialModel", 9))
        service = " ".join(read_tier(cell(name))[:size] for name, size in parts if cell(name))
        summary = _Summary(
            number,
            territory,
            self._tier(territory, service, summary_id),
            cell("UseType"),
            cell("CommercialModel"),
            currency,
        )
        self._summaries[summary_id] = summary
        return summary

    def _tier(self, territory: str, service: str, summary_id: str) -> str:
        """A name for what shares one summary's revenue; unique within the territory."""
        tier = read_tier(service) if service else "all"
        taken = {s.tier for s in self._summaries.values() if s.territory == territory}
        return tier if tier not in taken else read_tier(f"{tier[:20]}_{summary_id}")

    def _with_summaries(self, table: pl.DataFrame) -> tuple[pl.DataFrame, list[Rejection]]:
        """What each line's summary says, beside it; lines of no summary are refused."""
        if "summary" not in table.columns:
            table = table.with_columns(summary=pl.lit(""))
        if len(self._summaries) == 1:
            # Where there is only one summary, a line that names none can mean no other.
            (only,) = self._summaries
            table = table.with_columns(_or(pl.col("summary"), pl.lit(only)).alias("summary"))
        columns = ("territory", "tier", "use_type", "commercial_model", "currency")
        summaries = pl.DataFrame(
            [
                [summary_id, *(getattr(summary, name) for name in columns)]
                for summary_id, summary in self._summaries.items()
            ],
            schema=dict.fromkeys(
                (
                    "summary",
                    "territory",
                    "tier",
                    "summary_use_type",
                    "commercial_model",
                    "currency",
                ),
                pl.String,
            ),
            orient="row",
        )
        joined = _beside(table, summaries, "summary")
        is_unknown = joined["territory"].is_null()
        if not is_unknown.any():
            return joined, []
        refused = [
            reject(
                SourceRow(self._sha256, row["number"], {k: v for k, v in row.items() if v}),
                "dsr:summary_unknown",
                row["summary"],
                f"line {row['number']}: summary {row['summary']!r} is not in the file, so that "
                "territory and currency are unknown",
            )
            for row in joined.filter(is_unknown).to_dicts()
        ]
        return joined.filter(~is_unknown), refused

    def _without_lost(self, table: pl.DataFrame) -> tuple[pl.DataFrame, list[Rejection]]:
        """Usage of a resource or release that its block does not have is refused."""
        lost: list[Rejection] = []
        for what, has in (("resource", "has_resource"), ("release", "has_release")):
            is_lost = (table[f"transacted_{what}"] != "") & ~table[has]
            if what == "release":
                # Beside a resource that is there, the release only adds to it.
                is_lost = is_lost & ~table["has_resource"]
            lost += [
                reject(
                    SourceRow(self._sha256, row["number"], {k: v for k, v in row.items() if v}),
                    f"dsr:{what}_unknown",
                    row[f"transacted_{what}"],
                    f"line {row['number']}: block {row['block']!r} has no {what} "
                    f"{row[f'transacted_{what}']!r}",
                )
                for row in table.filter(is_lost).to_dicts()
            ]
            table = table.filter(~is_lost)
        return table, lost

    def _add_up(self, lines: pl.DataFrame, table: pl.DataFrame) -> None:
        """Remember what lines come to, by summary."""
        counted = lines.select("row_number", "units", "amount")
        if lines.height == table.height:
            counted = counted.with_columns(table["summary"])
        else:
            of_row = table.select(pl.col("number").alias("row_number"), "summary")
            counted = counted.join(of_row, on="row_number")
        sums = counted.group_by("summary").agg(
            pl.col("units", "amount").sum(), (pl.col("amount") != 0).any().alias("is_priced")
        )
        for summary_id, units, amount, is_priced in sums.iter_rows():
            summary = self._summaries[summary_id]
            summary.units_read += units
            summary.atoms_read += to_atoms(amount)
            summary.has_priced_lines |= is_priced

    def _sum_differences(self) -> list[str]:
        if int(self._head["NumberOfFiles"]) > 1:
            return []
        told = []
        for summary_id, summary in self._summaries.items():
            if summary.usages != summary.units_read:
                told.append(
                    f"summary {summary_id} says {summary.usages} usages, its lines come to "
                    f"{summary.units_read}"
                )
            if summary.has_priced_lines and summary.atoms != summary.atoms_read:
                told.append(
                    f"summary {summary_id} says {format_atoms(summary.atoms)} {summary.currency}, "
                    f"its lines come to {format_atoms(summary.atoms_read)}"
                )
        return told

    def _read_head(self) -> dict[str, str]:
        for line in islice(self._text.lines(), _HEAD_LINES_MAX):
            texts = [cell.strip() for cell in line.text.rstrip("\r").split("\t")]
            if not any(texts) or texts[0].startswith("#"):
                continue
            if texts[0] not in HEADS:
                break
            layout = layout_for(texts[0], len(texts) - 1)
            assert layout is not None
            head = dict.fromkeys(layout.cells, "")
            head |= dict(zip(layout.cells, texts[1:], strict=False))
            return _checked_head(head, layout, len(texts) - 1)
        raise UnreadableFileError("dsr:head", "the file does not begin with a HEAD record")

    def _read_foot(self, lines: pl.DataFrame) -> None:
        for row in lines.to_dicts():
            texts = [cell.strip() for cell in str(row["text"]).split("\t")]
            layout = layout_for(str(row["record"]), len(texts) - 1)
            names = _FOOT_CELLS if layout is None else layout.cells
            self._foot = dict(zip(names, texts[1:], strict=False))

    def _foot_differences(self) -> list[str]:
        foot = self._foot or {}
        counted = {"NumberOfLinesInFile": self._text.lines_read}
        if int(self._head["NumberOfFiles"]) == 1:
            counted["NumberOfLinesInReport"] = self._text.lines_read
            counted["NumberOfBlocksInReport"] = self._bodies
        counted["NumberOfSummaryRecords"] = self._summary_records
        counted["NumberOfBlocksInFile"] = self._bodies
        told = []
        if not any(foot.values()):
            told.append("FOOT says nothing of the file's lines")
        for name, number in counted.items():
            text = foot.get(name, "").replace(",", "")
            if text and text != str(number):
                told.append(f"FOOT says {name} {text}, there are {number}")
        return told


_FOOT_CELLS = ("NumberOfLinesInFile", "NumberOfLinesInReport", "NumberOfSummaryRecords")
# A record's type and the tab behind it.
_TYPE_LETTERS_MAX = 8
_SIGNS = (b"\x00", b"|", b"\\")
_NUMBERS: dict[str, pl.DataType] = {"number": pl.Int64(), "block_number": pl.UInt32()}
# RE, AS, MW, SU, RU, LI: what stands in a block, whose id is the second cell.
_IN_BLOCKS = re.compile(r"^(?:RE|AS|MW|SU|RU|LI|CU|ML)[0-9]")
_NAME_PARTS = 8
_IDS = re.compile(r"^(?P<x>[0-9]+)of(?P<y>[0-9]+)$")


def _as_instant(text: str) -> str:
    """An instant in UTC, whose texts sort as instants do; as written where it is none."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return text
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return instant.astimezone(UTC).isoformat()


def _is_usage(record_type: str) -> bool:
    base = record_type.partition(".")[0]
    return base.startswith(("SU", "SR")) and base not in {*HEADS, *_FEET} and known_record(base)


def _wanted_positions(texts: pl.Series) -> list[int]:
    """Where cells stand that records of the types in these lines are read for."""
    types = {text.split("\t", 1)[0].strip() for text in texts.str.head(_TYPE_LETTERS_MAX).unique()}
    bases = {name.partition(".")[0] for name in types if name and not name.startswith("#")}
    if not all(map(known_record, bases)):
        # What was cut off, or is written with spaces before it, may be any record.
        return list(range(longest_record() + 1))
    wanted = {0, 1}
    for name, layout in record_layouts().items():
        if name.partition(".")[0] in bases:
            read = _cells_read(name).values()
            wanted.update(at for cells in read for at in layout.positions(*cells))
    return sorted(wanted)


def _cells_read(record_type: str) -> Mapping[str, tuple[str, ...]]:
    """What is read of a record by column; of HEAD, summaries and FOOT nothing is."""
    if record_type.startswith("AS"):
        return _RESOURCE_CELLS
    if record_type.startswith("RE"):
        return _RELEASE_CELLS
    return _USAGE_CELLS if _is_usage(record_type) else {}


def _is_body(record_type: str) -> bool:
    in_block = _IN_BLOCKS.match(record_type) is not None and known_record(record_type)
    return in_block or _is_usage(record_type)


def _of_type(records: pl.DataFrame, record_type: str) -> pl.DataFrame:
    return records.select("number", "text", "record").filter(pl.col("record") == record_type)


def _kind(profile: str) -> str:
    folded = re.sub(r"[^a-z0-9]", "", profile.casefold())
    try:
        return _PROFILES[folded]
    except KeyError:
        raise UnreadableFileError(
            "dsr:profile_unknown",
            f"HEAD names the profile {profile!r}; read are Basic Audio, UGC and Financial "
            "Reporting to Record Companies",
        ) from None


def _checked_head(head: dict[str, str], layout: RecordLayout, cells: int) -> dict[str, str]:
    if cells < layout.cells_min:
        missing = ", ".join(layout.cells[cells : layout.cells_min])
        raise UnreadableFileError(
            "dsr:head", f"the HEAD record breaks off after {cells} cells; it lacks {missing}"
        )
    for name in ("FileNumber", "NumberOfFiles"):
        if layout.record_type == "SRHE" and not head[name]:
            head[name] = "1"
        if not re.fullmatch(r"[0-9]{1,6}", head[name]):
            raise UnreadableFileError("dsr:head", f"HEAD: {name} is {head[name]!r}, not a number")
    if isinstance(read_date(head["UsageStartDate"], ISO_DATES), str):
        raise UnreadableFileError(
            "dsr:head", f"HEAD: UsageStartDate is {head['UsageStartDate']!r}, not a date"
        )
    if int(head["FileNumber"]) > int(head["NumberOfFiles"]):
        told = f"file {head['FileNumber']} of {head['NumberOfFiles']}"
        raise UnreadableFileError("dsr:head", f"HEAD: this is {told}")
    _kind(head["Profile"])
    if not head["MessageId"] or not head["SenderPartyId"]:
        raise UnreadableFileError("dsr:head", "HEAD names no MessageId, or no SenderPartyId")
    return head


def _name_differences(name: str, head: Mapping[str, str]) -> list[str]:
    """What the file's name tells otherwise than HEAD (DSR Part 1, file naming)."""
    parts = name.partition(".")[0].split("_")
    if parts[0] != "DSR" or len(parts) < 6:
        return [] if not name.startswith("DSR") else [f"{name} is not named as DSR asks for"]
    told = []
    for part, which in ((1, "Recipient"), (2, "Sender")):
        known = {head[f"{which}PartyId"], re.sub(r"[\s_]", "", head[f"{which}Name"])}
        if parts[part] and known != {""} and parts[part] not in known:
            told.append(
                f"the name says {which.lower()} {parts[part]}, HEAD {' or '.join(sorted(known))}"
            )
    service = re.sub(r"[\s_]", "", head["ServiceDescription"])
    if len(parts) >= _NAME_PARTS and service and parts[3] and parts[3] != service:
        told.append(f"the name says service {parts[3]}, HEAD {service}")
    for piece in parts:
        if (match := _IDS.match(piece)) is not None:
            x, y = int(match["x"]), int(match["y"])
            if (x, y) != (int(head["FileNumber"]), int(head["NumberOfFiles"])):
                own = f"{head['FileNumber']}of{head['NumberOfFiles']}"
                told.append(f"the name says file {piece}, HEAD {own}")
    return told


def _without_open_block(records: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Whole blocks, and the records of the last one, which may go on."""
    if records.is_empty():
        return records, records
    types = records["record"].unique().to_list()
    ended = any(name.partition(".")[0] in _FEET for name in types)
    of_blocks = [name for name in types if _IN_BLOCKS.match(name)]
    if ended or records["record"][-1] not in of_blocks:
        return records, records.clear()
    in_block = records["record"].is_in(of_blocks)
    other = in_block & (records["block"] != records["block"][-1])
    last = other.arg_true()
    start = int(last[-1]) + 1 if last.len() else 0
    return records[:start], records[start:]


def _table_of(
    records: pl.DataFrame,
    is_meant: pl.Series,
    layout: RecordLayout,
    wanted: Mapping[str, tuple[str, ...]],
) -> pl.DataFrame:
    """``number``, ``block_number`` and the wanted cells that the layout has, as text."""
    cells = {1: "block"} | {at: f"cell_{at}" for at in range(2, len(layout.cells) + 1)}
    there = {at: name for at, name in cells.items() if name in records.columns}
    return (
        records.lazy()
        .filter(is_meant)
        .select(
            *_NUMBERS,
            *(
                _first_filled(found).alias(name) if found else pl.lit("").alias(name)
                for name, cells in wanted.items()
                if (places := layout.positions(*cells))
                for found in [[there[at] for at in places if at in there]]
            ),
        )
        .collect()
    )


def _first_filled(names: Sequence[str]) -> pl.Expr:
    """The first of these cells that is not empty."""
    # Of a block whose other records are told by fewer columns there is nothing in the rest.
    *others, last = (pl.col(name).fill_null("") for name in names)
    for cell in reversed(others):
        last = _or(cell, last)
    return last


def _beside(table: pl.DataFrame, told: pl.DataFrame, key: str) -> pl.DataFrame:
    """What is told once of each key beside the table's rows, whose other columns stay untouched."""
    found = table.select(key).join(told, on=key, how="left", maintain_order="left")
    return table.hstack(found.drop(key))


def _with_resource(table: pl.DataFrame, resources: pl.DataFrame) -> pl.DataFrame:
    """Beside each record of use the resource that it names, or its block's only one."""
    for name in ("transacted_resource", "transacted_release", "dsp_recording_id", "dsp_release_id"):
        if name not in table.columns:
            table = table.with_columns(pl.lit("").alias(name))
    said = ("isrc", "iswc", "title", "artist", "dsp_recording_id")
    found = [f"as_{name}" for name in said]
    told = resources.rename({name: f"as_{name}" for name in said})
    named = _or(
        pl.col("transacted_resource"), _or(pl.col("dsp_recording_id"), pl.col("dsp_release_id"))
    )
    names_none = (pl.col("transacted_resource") == "") & (pl.col("transacted_release") == "")
    table = table.with_columns(named.alias("wanted"), names_none.alias("names_none"))
    only = told.unique("block_number", keep="none")
    joined = _beside(table, only.select("block_number", "reference", *found), "block_number")
    # Most blocks have one resource, and their records name it, or none and so mean it.
    is_only = (
        (pl.col("wanted") == pl.col("reference"))
        | (pl.col("wanted") == pl.col("as_dsp_recording_id"))
        | (pl.col("names_none") & pl.col("reference").is_not_null())
    )
    if not joined.select(is_only.fill_null(value=False).all()).item():
        joined = _with_resource_by_name(table, told, only, found)
    return joined.with_columns(
        pl.col("as_title").is_not_null().alias("has_resource"),
        pl.col("as_dsp_recording_id").fill_null("").alias("dsp_recording_id"),
        *(pl.col(f"as_{name}").fill_null("").alias(name) for name in said[:-1]),
    ).drop(pl.selectors.starts_with("as_"))


def _with_resource_by_name(
    table: pl.DataFrame, told: pl.DataFrame, only: pl.DataFrame, found: list[str]
) -> pl.DataFrame:
    """The resource by its reference, else by its id, else the block's only one."""
    by_reference = told.unique(["block_number", "reference"], keep="first", maintain_order=True)
    by_id = told.unique(["block_number", "as_dsp_recording_id"], keep="first", maintain_order=True)
    joined = table.join(
        by_reference.select("block_number", pl.col("reference").alias("wanted"), *found),
        on=["block_number", "wanted"], how="left", maintain_order="left",
    ).join(
        by_id.select("block_number", pl.col("as_dsp_recording_id").alias("wanted"),
                     *(pl.col(n).alias(f"{n}_by_id") for n in found)),
        on=["block_number", "wanted"], how="left", maintain_order="left",
    ).join(
        only.select("block_number", *(pl.col(n).alias(f"{n}_only") for n in found)),
        on="block_number", how="left", maintain_order="left",
    )  # fmt: skip
    # A record that names a resource means that one; only one that names none means the only.
    return joined.with_columns(
        pl.coalesce(n, f"{n}_by_id", pl.when("names_none").then(f"{n}_only")) for n in found
    )


def _with_release(table: pl.DataFrame, releases: pl.DataFrame) -> pl.DataFrame:
    """Beside each record of use the release that it names, else its block's first."""
    said = ("upc", "release_title", "label", "release_artist")
    if releases.is_empty():
        return table.with_columns(
            pl.lit(value=False).alias("has_release"), *(pl.lit("").alias(name) for name in said)
        )
    by_reference = releases.unique(["block_number", "reference"], keep="first", maintain_order=True)
    first = releases.unique("block_number", keep="first", maintain_order=True)
    joined = table.join(
        by_reference.select(
            "block_number",
            pl.col("reference").alias("transacted_release"),
            *said,
            has_release=pl.lit(True),
        ),
        on=["block_number", "transacted_release"], how="left", maintain_order="left",
    ).join(
        first.select("block_number", *(pl.col(name).alias(f"first_{name}") for name in said)),
        on="block_number", how="left", maintain_order="left",
    )  # fmt: skip
    # A record that names a release means that one; only one that names none, the block's first.
    names_none = pl.col("transacted_release") == ""
    joined = joined.with_columns(
        pl.col("has_release").fill_null(value=False),
        *(
            pl.coalesce(name, pl.when(names_none).then(f"first_{name}"), pl.lit("")).alias(name)
            for name in said
        ),
    )
    return joined.with_columns(_or(pl.col("artist"), pl.col("release_artist")).alias("artist"))


def _readings() -> dict[str, ColumnReading]:
    amounts = ColumnReading(partial(read_amount, decimal="."), plain_column("."))
    counts = ColumnReading(partial(read_whole_number, decimal="."), plain_column("."))
    dates = ColumnReading(partial(read_date, formats=ISO_DATES))
    words: dict[str, Callable[[str], object]] = {
        "use_type": word_reader({"*": "Unknown"}, get_args(UseType)),
        "commercial_model": word_reader({"*": "Unknown"}, get_args(CommercialModel)),
    }
    return {
        "amount": amounts,
        "units": counts,
        "returns": counts,
        "used_on": dates,
        "reported_on": dates,
    } | {name: ColumnReading(read) for name, read in words.items()}


def _or(first: pl.Expr, otherwise: pl.Expr) -> pl.Expr:
    return pl.when(first != "").then(first).otherwise(otherwise)


def _first_of(texts: pl.Expr) -> pl.Expr:
    """The first of several values (``|`` between them)."""
    return texts.str.splitn("|", 2).struct[0].str.strip_chars().fill_null("")


def _unescaped(texts: pl.Expr) -> pl.Expr:
    return texts.str.replace_all(r"\\([|\\])", "$1")


def _is_blank(lines: pl.DataFrame) -> bool:
    return not lines["text"].str.contains(r"\S").any()


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"number": pl.Int64})


def _no_lines() -> pl.DataFrame:
    return pl.DataFrame(schema=USAGE_LINE_SCHEMA)
