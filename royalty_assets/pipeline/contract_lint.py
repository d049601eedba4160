"""What the contract linter looks at: the folders as they are now, the catalog and the ledgers.

Nothing is committed, and nothing has to be: before a first run contracts are looked at without
money. What is wrong with them is for ``domain.contract_lint`` to say.
"""

import polars as pl

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.catalog import SHARE_SCHEMA
from royalty_assets.domain.contract_lint import USAGE_SCHEMA, Finding, Subject, lint_contracts
from royalty_assets.domain.contracts import build_contracts
from royalty_assets.domain.ledger import NO_CURRENCY, Account
from royalty_assets.domain.rates import build_rates
from royalty_assets.domain.splits import ATOMS, to_atom_column
from royalty_assets.domain.terms import Period
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.catalog import catalog_in_force, load_catalog
from royalty_assets.pipeline.context import CATALOG_FEED, CATALOG_PARTITION, PipelineContext
from royalty_assets.pipeline.contracts import CONTRACTS_FOLDER, RATES_FOLDER
from royalty_assets.pipeline.periods import committed_months, ledger_in_force
from royalty_assets.sources.contract_files import read_contract_folder, read_rate_folder

_WHOLE_RULES = frozenset({"share:sum", "share:repeated_rights_holder"})
_LETTERS_MAX = 1_000_000


def contract_findings(
    context: PipelineContext, month: Partition | None = None
) -> tuple[Period, list[Finding]]:
    """Look at a project's contracts.

    Args:
        context: the project.
        month: whose usage is looked at; all committed months if not given.

    Returns:
        The month that is to be paid (the newest committed one, or the present one, if none is
        given), and the findings.
    """
    committed = committed_months(context)
    looked_at = [each for each in committed if month in {None, each}]
    at = month.window.start if month else context.now()
    if month is None and committed:
        at = committed[-1].window.start
    period = Period(at.date().replace(day=1))
    files = read_contract_folder(context.home / CONTRACTS_FOLDER)
    contracts, problems = build_contracts(files.files, files.problems)
    rate_files = read_rate_folder(context.home / RATES_FOLDER)
    rates, rate_problems = build_rates(rate_files.rows)
    recordings, shares, broken = _catalog(context)
    subject = Subject(
        contracts=contracts,
        problems=[*files.problems, *problems],
        rates=rates,
        rate_problems=[*rate_files.problems, *rate_problems],
        shares=shares,
        broken_shares=broken,
        recordings=recordings,
        usage=pl.concat(
            [pl.DataFrame(schema=USAGE_SCHEMA), *(_usage(context, m) for m in looked_at)]
        ),
        month=period,
    )
    return period, lint_contracts(subject)


def _catalog(
    context: PipelineContext,
) -> tuple[frozenset[str] | None, pl.DataFrame, dict[str, str]]:
    """Recordings, whole shares, and what is wrong with the others', of the catalog in force."""
    if context.registry.commit(CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION) is None:
        return None, pl.DataFrame(schema=SHARE_SCHEMA), {}
    _, batch = catalog_in_force(context)
    catalog = load_catalog(context, batch)
    letters = context.registry.dead_letters(CATALOG_FEED, Stage.CATALOG, limit=_LETTERS_MAX)
    broken = {
        letter["value"]: letter["reason"] for letter in letters if letter["rule"] in _WHOLE_RULES
    }
    recordings = frozenset(catalog.recordings["recording_id"].to_list())
    return recordings, catalog.shares.select(SHARE_SCHEMA.keys()), broken


def _usage(context: PipelineContext, month: Partition) -> pl.DataFrame:
    """``USAGE_SCHEMA`` of a month's committed ledger."""
    ledger = ledger_in_force(context, month).filter(
        (pl.col("account") == Account.RECORDING_PAYABLE) & (pl.col("currency") != NO_CURRENCY)
    )
    lines = ledger.with_columns(
        pl.lit(f"{month.window.start:%Y-%m}").alias("month"),
        (to_atom_column(ledger["amount"]) * pl.Series([-1], dtype=ATOMS)).alias("receipts"),
    )
    key = [name for name in USAGE_SCHEMA if name != "receipts"]
    summed = lines.group_by(key).agg(pl.col("receipts").sum())
    return summed.select(USAGE_SCHEMA.keys()).sort(key)
