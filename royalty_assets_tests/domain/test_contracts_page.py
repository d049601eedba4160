"""The page that teaches contracts: its figures, worked out by hand, are what its contracts pay.

Method: each section's contracts are read from the page as they would be from a file, and each row
of its table is a month that starts from the balances of the one above.
"""

import re
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from royalty_assets.domain import contract_lint
from royalty_assets.domain.accounts import Accounts
from royalty_assets.domain.catalog import SHARE_SCHEMA
from royalty_assets.domain.contracts import (
    Charge,
    Contract,
    Escalation,
    Participant,
    Payee,
    RecoupmentAccount,
    Reserve,
    Withholding,
    build_contracts,
)
from royalty_assets.domain.ledger import LEDGER_SCHEMA
from royalty_assets.domain.money import to_atoms
from royalty_assets.domain.money_columns import atoms_to_series
from royalty_assets.domain.payouts import build_payouts
from royalty_assets.domain.rates import build_rates
from royalty_assets.domain.terms import Period
from royalty_assets.sources.contract_files import read_rate_folder
from royalty_assets.sources.plain_yaml import read_plain_yaml

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-contracts.md"
SECTIONS = {
    title: body
    for title, body in re.findall(
        r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    if "```yaml" in body
}
OF_LINES = {"month", "recording", "territory", "use", "units", "comes in"}
OF_PAYOUTS = {
    "recouped": "recouped",
    "reserved": "reserved",
    "carried forward": "amount_carried_forward",
    "withheld": "amount_withheld",
}


def table_of(body):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in body.splitlines()
        if line.startswith("|")
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def ledger_of(row):
    amount, currency = row["comes in"].split()
    line = {
        "feed": "reports",
        "territory": row.get("territory", "DE"),
        "tier": "all",
        "use_type": row.get("use", "Stream"),
        "currency": currency,
        "reason": "",
        "corrects": "",
        "entry": "usage",
        "units": int(row.get("units", "1")),
    }
    lines = [
        line | {"account": "receivable", "recording_id": ""},
        line | {"account": "recording_payable", "recording_id": row.get("recording", "REC-1")},
    ]
    atoms = to_atoms(Decimal(amount))
    frame = pl.DataFrame(lines, schema={n: t for n, t in LEDGER_SCHEMA.items() if n != "amount"})
    return frame.with_columns(atoms_to_series("amount", [atoms, -atoms]))


def paid(payouts, column, name=None):
    rows = payouts.payouts
    if name is not None:
        rows = rows.filter(pl.col("rights_holder_id") == name)
    return sum(rows[column].to_list(), Decimal(0))


@pytest.mark.parametrize("title", SECTIONS)
def test_the_figures_of_the_page_are_what_its_contracts_pay(title, tmp_path):
    body = SECTIONS[title]
    (written,) = re.findall(r"```yaml\n(.*?)```", body, re.DOTALL)
    content, repeated = read_plain_yaml(written.encode())
    contracts, problems = build_contracts([(title, content)])
    assert (repeated, problems) == ([], [])
    for table in re.findall(r"```csv\n(.*?)```", body, re.DOTALL):
        (tmp_path / "rates.csv").write_text(table)
    rates, rate_problems = build_rates(read_rate_folder(tmp_path).rows)
    assert rate_problems == []
    rows = table_of(body)
    assert rows
    shares = pl.DataFrame(schema=SHARE_SCHEMA)
    balances = Accounts()
    for row in rows:
        payouts = build_payouts(
            ledger_of(row),
            shares,
            contracts=contracts,
            rates=rates,
            period=Period.parse(row["month"]),
            opening=balances,
        )
        balances = Accounts.from_frame(payouts.accounts)
        for column, told in row.items():
            if column == "deducted":
                found = sum(payouts.balance["deducted"].to_list(), Decimal(0))
            elif column in OF_PAYOUTS:
                found = paid(payouts, OF_PAYOUTS[column])
            elif column not in OF_LINES:
                found = paid(payouts, "amount_paid", column)
            else:
                continue
            assert (row["month"], column, found) == (row["month"], column, Decimal(told))
        told_payees = set(row) - OF_LINES - set(OF_PAYOUTS) - {"deducted"}
        assert set(payouts.payouts["rights_holder_id"].to_list()) <= told_payees


REFERENCE = PAGE.parents[1] / "reference" / "contracts.md"


@pytest.mark.parametrize(
    ("part", "model"), [("payees", Payee), ("accounts", RecoupmentAccount), ("contracts", Contract)]
)
def test_the_reference_has_every_field_and_no_other(part, model):
    (section,) = re.findall(
        rf"^## {part}\n(.*?)(?=^## )", REFERENCE.read_text(), re.MULTILINE | re.DOTALL
    )
    told = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    names = {name for cell in told for name in re.findall(r"`([a-z_.]+)`", cell)}
    assert {name for name in names if "." not in name} == set(model.model_fields)
    nested = {
        "withholding": Withholding,
        "charges": Charge,
        "participants": Participant,
        "escalations": Escalation,
        "reserve": Reserve,
    }
    for name in names:
        of, _, field = name.partition(".")
        assert not field or field in nested[of].model_fields
    for name, its_model in nested.items():
        if name in model.model_fields:
            assert all(f"`{field}`" in section or f".{field}`" in section
                       for field in its_model.model_fields)  # fmt: skip


def test_the_reference_has_every_finding_of_the_linter():
    source = Path(contract_lint.__file__).read_text()
    findings = set(re.findall(r'Severity\.[A-Z]+, "([a-z_]+)"', source)) | {"not_covered"}
    section = REFERENCE.read_text().partition("## What the linter finds")[2]
    assert findings <= set(re.findall(r"`([a-z_]+)`", section))
