"""A seeded simulation of months under faults, after TigerBeetle's VOPR: ``make soak``.

A seed is a world (``world``): feeds, deliveries, a calendar of what people do. An operator
(``actor``) runs the product through its months, while faults (``faults``) strike every boundary.
Afterwards the books are held against the same world without faults, and against a slow count of
what was sent (``oracle``). ``bugs`` breaks the product on purpose, to see that this is noticed.
"""
