"""The linter over a project: before anything is committed, and with the ledgers' money after."""

from decimal import Decimal

import pytest

from royalty_assets.domain.ledger import NO_CURRENCY, Account
from royalty_assets.domain.money import to_atoms
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.contract_lint import contract_findings
from royalty_assets.pipeline.month import month_frames
from royalty_assets_tests.projects import MARCH, demo_context, inbox_context, run_month


@pytest.fixture(scope="module")
def march(tmp_path_factory):
    with demo_context(tmp_path_factory.mktemp("march")) as (context, _):
        run_month(context)
        yield context


def write(context, name, text):
    path = context.home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def payable(context):
    """Recording → currency → atoms that its ledger owes, added up as decimals."""
    ledger = month_frames(context, MARCH)[0]
    due: dict[str, dict[str, Decimal]] = {}
    for account, recording, currency, amount in ledger.select(
        "account", "recording_id", "currency", "amount"
    ).iter_rows():
        if account == Account.RECORDING_PAYABLE and currency != NO_CURRENCY:
            by_currency = due.setdefault(recording, {})
            by_currency[currency] = by_currency.get(currency, Decimal(0)) - amount
    return {
        recording: {currency: to_atoms(amount) for currency, amount in by_currency.items()}
        for recording, by_currency in due.items()
    }


def test_before_anything_is_committed_contracts_are_looked_at_without_money(tmp_path):
    context = inbox_context(tmp_path)
    assert contract_findings(context)[1] == []
    write(context, "contracts/a.yaml", "contracts:\n  - contract: A\n    recordings: [R1]\n")
    write(context, "rates/r.csv", "date,currency,into,rate,source\n2025-03-31,USD,EUR,0,ECB\n")
    month = Partition.parse(Cadence.MONTHLY, "2025-03-01")
    period, findings = contract_findings(context, month)
    assert period.label == "2025-03"
    assert [(f.severity, f.rule, f.subject, f.money) for f in findings] == [
        ("error", "does_not_load", "contracts/a.yaml: A", {}),
        ("warning", "unusable_rate", "rates/r.csv:2", {}),
    ]
    context.registry.close()


def test_findings_have_the_money_of_the_committed_ledgers(march):
    due = payable(march)
    richest = max(due, key=lambda recording: max(due[recording].values()))
    write(
        march,
        "contracts/a.yaml",
        f"""
payees: [{{payee: P, currency: CHF}}]
contracts:
  - contract: refused
    recordings: [{richest}]
    participants: [{{payee: P, percent: 101}}]
""",
    )
    period, findings = contract_findings(march)
    assert period.label == "2025-03"
    first = findings[0]
    assert (first.rule, first.money) == ("does_not_load", due[richest])
    write(
        march,
        "contracts/a.yaml",
        f"""
payees: [{{payee: P, currency: CHF}}]
contracts:
  - contract: A
    recordings: [{richest}]
    participants: [{{payee: P, percent: 100}}]
""",
    )
    _, findings = contract_findings(march, MARCH)
    missing = {f.subject: f.money for f in findings if f.rule == "no_rate"}
    assert missing == {
        f"{currency} into CHF, 2025-03": {currency: atoms}
        for currency, atoms in due[richest].items()
    }
    rows = "".join(f"2025-03-31,{currency},CHF,0.95,bank\n" for currency in due[richest])
    write(march, "rates/r.csv", f"date,currency,into,rate,source\n{rows}")
    assert "no_rate" not in {f.rule for f in contract_findings(march)[1]}


def test_shares_that_are_not_whole_are_found_with_their_money(tmp_path):
    context = inbox_context(tmp_path)
    write(
        context,
        "catalog/recordings.csv",
        "isrc,title,artist,recording_id\nGBAYE0000001,One,Ada,R1\nGBAYE0000002,Two,Ada,R2\n",
    )
    write(
        context,
        "catalog/shares.csv",
        "recording_id,rights_holder_id,share\nR1,P,99\nR2,P,100\n",
    )
    write(
        context,
        "inbox/march.csv",
        "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
        "2025-03-04,DE,GBAYE0000001,One,Ada,3,1.25,EUR\n"
        "2025-03-04,DE,GBAYE0000002,Two,Ada,3,2.50,EUR\n",
    )
    run_month(context)
    assert payable(context) == {
        "R1": {"EUR": to_atoms(Decimal("1.25"))},
        "R2": {"EUR": to_atoms(Decimal("2.50"))},
    }
    (finding,) = contract_findings(context)[1]
    assert (finding.rule, finding.subject) == ("shares_not_whole", "R1")
    assert finding.money == {"EUR": to_atoms(Decimal("1.25"))}
    assert "99 %" in finding.told
    context.registry.close()
