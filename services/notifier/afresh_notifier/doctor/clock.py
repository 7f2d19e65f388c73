"""Whether a view reads the clock. In: its definition, as PostgreSQL writes it. Out: whether it calls for the moment, and
whether for something that changes now and then only, such as today's date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_TEXT = re.compile(r"'(?:[^']|'')*'")
_NAME = re.compile(r'"(?:[^"]|"")*"')

#: They are another at each refresh.
_MOMENT = (
    r"(?:\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\(\)"
    r"|\b(?:CURRENT_TIMESTAMP|CURRENT_TIME|LOCALTIMESTAMP|LOCALTIME)\b(?:\(\d\))?)"
)

_IN_ZONE = rf"\(*{_MOMENT}(?:\)* AT TIME ZONE ''::text)?\)*"

#: They change now and then: today's date, and a moment of which only a date, a year or the like is kept.
_CUT = re.compile(
    r"\bCURRENT_DATE\b"
    rf"|{_IN_ZONE}::date\b"
    rf"|\bdate_trunc\(''::text, {_IN_ZONE}"
    rf"|\bEXTRACT\((?:year|isoyear|quarter|month|week|day|dow|isodow|doy|hour) FROM {_IN_ZONE}"
)


def read_by(definitions: Iterable[str]) -> tuple[bool, bool]:
    """Whether one of these calls for the moment, and whether one calls for a day or another moment that was cut down."""
    moment = cut = False
    for definition in definitions:
        code = _NAME.sub('""', _TEXT.sub("''", definition))
        code, cuts = _CUT.subn("", code)
        cut = cut or cuts > 0
        moment = moment or re.search(_MOMENT, code) is not None
    return moment, cut
