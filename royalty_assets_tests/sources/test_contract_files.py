"""Folders of contracts and rates: every value as written, and every bad file told by its place.

Method: real files in a folder; what they come to is asked of ``build_contracts``, so that money
that must wait is seen to wait.
"""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.contracts import build_contracts
from royalty_assets.domain.rates import build_rates
from royalty_assets.sources.contract_files import read_contract_folder, read_rate_folder
from royalty_assets.sources.plain_yaml import PlainYamlError, read_plain_yaml


@pytest.fixture
def folder(tmp_path):
    def write(name="contracts", **files):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        for told, content in files.items():
            path = place / told.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    return write


def built(place):
    read = read_contract_folder(place)
    contracts, problems = build_contracts(read.files, read.problems)
    return contracts, [*read.problems, *problems]


def test_yaml_values_are_the_text_that_stands_there(folder):
    contracts, problems = built(folder(
        norway__yaml="""
payees:
  - payee: 0123
    minimum_payment: 10.10
contracts:
  - contract: 12e3
    recordings: [1_000, 12:30, yes]
    territories: NO
    valid_from: 2025-01-01
    valid_to:
    participants:
      - {payee: 0123, percent: 33.333333}
    remainder_to: OFF
"""
    ))  # fmt: skip
    assert problems == []
    assert contracts.payees["0123"].minimum_payment == Decimal("10.10")
    contract = contracts.contracts["12e3"]
    assert contract.recordings == ("1_000", "12:30", "yes")
    assert (contract.territories, contract.remainder_to) == ("NO", "OFF")
    assert contract.participants[0].percent == Decimal("33.333333")
    assert contract.valid_to is None


def test_terms_may_be_shared_by_anchors(folder):
    contracts, problems = built(folder(
        shared__yaml="""
contracts:
  - &plain
    contract: A
    recordings: [R1]
    participants: [{payee: P, percent: 100}]
  - <<: *plain
    contract: B
    recordings: [R2]
"""
    ))  # fmt: skip
    assert problems == []
    assert contracts.contracts["B"].participants == contracts.contracts["A"].participants


def test_of_a_key_that_stands_twice_neither_counts_and_its_recordings_wait(folder):
    contracts, problems = built(folder(
        twice__yaml="""\
contracts:
  - contract: A
    recordings: [R1, R2]
    participants:
      - {payee: P, percent: 100}
      - payee: Q
        percent: 0
        percent: 10
  - contract: B
    recordings: [R3]
    participants: [{payee: P, percent: 100}]
"""
    ))  # fmt: skip
    assert set(contracts.contracts) == {"B"}
    assert contracts.refused == {"R1": "A", "R2": "A"}
    (problem,) = problems
    assert (problem.source, problem.entry) == ("contracts/twice.yaml", "A")
    assert problem.reason == "percent stands twice, on lines 7 and 8; keep one"


WHOLE = "{contract: Z, recordings: [R1], participants: [{payee: P, percent: 100}]}"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (f"contracts: []\npayees: []\ncontracts: [{WHOLE}]\n", "file"),
        ("groups:\n  G: [R1]\n  G: [R2]\n", "groups"),
        ("payees:\n  - payee: P\n    payee: Q\n", "payees 1"),
        ("contracts:\n  - contract: A\n    recordings: [R1]\n    recordings: [R2]\n", "A"),
    ],
)
def test_where_it_cannot_be_told_whose_money_waits_all_of_it_does(folder, content, place):
    contracts, problems = built(folder(twice__yaml=content))
    assert [(p.entry, p.recordings) for p in problems if p.rule == "yaml:repeated_key"] == [
        (place, None)
    ]
    assert not contracts.contracts


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"contracts:\n  - contract: M\xfcller\n", "line 2 is not UTF-8"),
        ("contracts: [\n", "line 2, column 1"),
        ("- contract: A\n", "not a mapping"),
        ("just words\n", "not a mapping"),
        ("payees: []\n---\npayees: []\n", "line 2, column 1"),
        ("payees: !!python/object:os.system {}\n", "line 1, column 9"),
        ("payees: [{payee: P, minimum_payment: !!float 1.1}]\n", "line 1"),
        ("payees: &a [*a]\n", "in itself"),
        ("payees: " + "[" * 5000 + "]" * 5000, "too deeply"),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n"
            for i in range(9)
        ), "two million"),
        ("payees:\n\t- payee: P\n", "line 2"),
        ("? [a, b]\n: c\n", "line 1"),
    ],
)  # fmt: skip
def test_yaml_that_cannot_be_read_is_told_and_all_money_waits(folder, content, told):
    contracts, problems = built(folder(bad__yml=content, good__yaml="payees: [{payee: P}]"))
    (problem,) = problems
    assert (problem.source, problem.rule, problem.recordings) == (
        "contracts/bad.yml", "file:yaml", None,
    )  # fmt: skip
    assert told in problem.reason
    assert set(contracts.payees) == {"P"}


@given(st.text(alphabet="ab:-[]{}&*!,?|>'\"#% \n\t\0é~<", max_size=60) | st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content):
    raw = content if isinstance(content, bytes) else content.encode()
    read = {}
    with suppress(PlainYamlError):
        read, _ = read_plain_yaml(raw)
    build_contracts([("any", read)])


def test_tables_come_to_the_same_as_yaml(folder):
    of_tables, problems = built(folder(
        "tables",
        payees__csv="payee,name,currency,minimum_payment,withholding_percent,withholding_reason\n"
        'P,"Müller, Ada",eur,50,15,US tax\nQ,,,,,\n',
        contracts_1__csv="\ufeffContract;Recording;Payee;Percent;Of;Territories;Use_types;"
        "Valid_from;Valid_to;Remainder_to;Notes\r\n"
        "A;R1;P;33,5 %;;DE AT;Stream|Download;2025-01-01;2025-12-31;L;signed\r\n"
        "A;R2;P;33,5 %;;DE AT;Stream|Download;2025-01-01;2025-12-31;L;\r\n"
        ";;;;;;;;;;\r\n"
        "A;R1;Q;10;gross_receipts;DE AT;Stream|Download;2025-01-01;2025-12-31;L;\r\n"
        "A;R2;Q;10;gross_receipts;DE AT;Stream|Download;2025-01-01;2025-12-31;L;\r\n",
        contracts_2__tsv="contract\tgroup\tpayee\tpercent\nB\tG\tQ\t100\n",
        groups__csv="group,recording\nG,R3\nG,R4\nG,R3\n",
    ))  # fmt: skip
    assert problems == []
    of_yaml, problems = built(folder(
        "yaml",
        all__yaml="""
payees:
  - payee: P
    name: Müller, Ada
    currency: EUR
    minimum_payment: 50
    withholding: [{percent: 15, reason: US tax}]
  - payee: Q
groups: {G: [R3, R4]}
contracts:
  - contract: A
    recordings: [R1, R2]
    territories: DE AT
    use_types: [Stream, Download]
    valid_from: 2025-01-01
    valid_to: 2025-12-31
    participants:
      - {payee: P, percent: 33.5}
      - {payee: Q, percent: 10, of: gross_receipts}
    remainder_to: L
  - contract: B
    groups: [G]
    participants: [{payee: Q, percent: 100}]
"""
    ))  # fmt: skip
    assert problems == []
    assert of_tables == of_yaml


HEADER = "contract,recording,payee,percent,territories,remainder_to\n"


@pytest.mark.parametrize(
    ("rows", "rule", "told"),
    [
        ("A,R1,P,50,DE,L\nA,R1,Q,50,AT,L\n", "contracts:conflicting",
         "territories: line 2 says DE, line 3 says AT"),
        ("A,R1,P,50,DE,L\nA,R1,Q,50,,L\n", "contracts:conflicting", "line 3 says nothing"),
        ("A,R1,P,50,DE,L\nA,R1,P,50,DE,L\n", "contracts:repeated", "line 3 repeats line 2"),
        ("A,R1,P,50,DE,L\nA,R1,Q,50,DE,L\nA,R2,P,50,DE,L\n", "contracts:conflicting",
         "differ between R1 and R2 (lines 2, 3, 4)"),
    ],
)  # fmt: skip
def test_rows_that_are_not_one_contract_hold_its_recordings(folder, rows, rule, told):
    contracts, problems = built(folder(contracts__csv=HEADER + rows + "B,R9,P,100,DE,\n"))
    (problem,) = problems
    assert (problem.entry, problem.rule) == ("A", rule)
    assert told in problem.reason
    assert set(contracts.contracts) == {"B"}
    assert set(contracts.refused) == ({"R1", "R2"} if "R2" in rows else {"R1"})


@pytest.mark.parametrize(
    ("content", "place", "told"),
    [
        ("", "file", "empty"),
        ("contract,recording,payee\n", "file", "no column percent"),
        ("contract,payee,percent,payee\n", "file", "payee stands twice"),
        ("contract,payee,percent,reserve\n", "file", "reserve is not known"),
        (HEADER + "A,R1,P,50\n", "line 2", "4 cells"),
        (HEADER + "A,R1,P,50,DE,L,more\n", "line 2", "7 cells"),
        (HEADER + 'A,"R1,P,50,DE,L\n', "line 2", "unexpected end"),
        (HEADER + ",R1,P,50,DE,L\n", "line 2", "is empty"),
        (HEADER.encode() + b"A,R1,M\xfcller,50,DE,L\n", "line 2", "not UTF-8"),
        (HEADER + 'A,R1,P,"1,085",DE,L\n', "line 2", "two ways"),
        (HEADER + 'A,R1,P,12.5,DE,L\nA,R1,Q,"12,5",DE,L\n', "line 3", "two ways"),
        (b"PK\x03\x04 no zip", "file", "zip"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_told_by_line(folder, content, place, told):
    _, problems = built(folder(contracts__csv=content))
    first = problems[0]
    assert (first.source, first.entry) == ("contracts/contracts.csv", place)
    assert told in first.reason
    # Without a name or with a line lost it is unknown whose money has to wait.
    assert first.recordings is None or first.entry == "line 2"


def test_half_a_withholding_and_a_group_without_recording_are_refused(folder):
    _, problems = built(folder(
        payees__csv="payee,withholding_percent,withholding_reason\nP,15,\n",
        groups__csv="group,recording\nG,\n",
    ))  # fmt: skip
    assert {(p.entry, p.rule) for p in problems} == {
        ("P", "payees:withholding.0.reason"),
        ("line 2", "groups:empty"),
    }


def test_files_that_look_like_contracts_and_are_not_read_are_told(folder):
    place = folder(
        README__md="how", example__yaml__txt="contracts: [", deal__pdf=b"%PDF", **{
            ".hidden__yaml": "[", "~$contracts__xlsx": "lock", "contracts__xlsx": b"PK",
            "shares__csv": "contract,payee\n", "old__yaml__bak": "x",
        },
    )  # fmt: skip
    (place / "2024").mkdir()
    (place / "2024" / "more.yaml").write_text("contracts: []")
    read = read_contract_folder(place)
    assert read.files == []
    assert [(p.source, p.rule, p.recordings) for p in read.problems] == [
        ("contracts/2024/more.yaml", "file:in_subfolder", None),
        ("contracts/contracts.xlsx", "file:unknown", None),
        ("contracts/old.yaml.bak", "file:unknown", None),
        ("contracts/shares.csv", "file:unknown", None),
    ]
    assert set(read.sha256_by_name) == {p.source for p in read.problems}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    read = read_contract_folder(tmp_path / "contracts")
    assert (read.files, read.problems, read.sha256_by_name) == ([], [], {})
    rates = read_rate_folder(tmp_path / "rates")
    assert (rates.rows, rates.problems, rates.sha256_by_name) == ([], [], {})


def test_rates_are_read_with_their_source_and_row(folder):
    read = read_rate_folder(folder(
        "rates",
        ecb__csv="date;currency;into;rate;source;series\n2025-03-31;usd;EUR;0,92;ECB;x\n"
        "2025-03-31;GBP;EUR;1,195;ECB;x\n",
        own__csv="date,currency,into,rate,source\n31.03.2025,USD,SEK,10.1,bank\n"
        '2025-03-31,USD,NOK,"10,5",bank\n2025-03-31,USD,JPY\n',
        rates__xlsx=b"PK",
    ))  # fmt: skip
    rates, problems = build_rates(read.rows)
    assert {pair: of[0].rate for pair, of in rates.by_pair.items()} == {
        ("USD", "EUR"): Decimal("0.92"),
        ("GBP", "EUR"): Decimal("1.195"),
    }
    assert [(p.source, p.row_number, p.rule) for p in [*read.problems, *problems]] == [
        ("rates/own.csv", 4, "row:cells"),
        ("rates/own.csv", 3, "row:number"),
        ("rates/rates.xlsx", 0, "file:unknown"),
        ("rates/own.csv", 2, "rates.date:date"),
    ]
