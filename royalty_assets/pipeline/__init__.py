"""The stages, one module each: read committed input, call the domain, commit the output.

No Dagster here, and no rules of the trade: those are ``domain``'s. Every stage follows one
protocol. It looks up the digest of its input; if the commit in force was made from that, it is
done. Else it writes lake objects, commits each batch, and closes the partition with what became
of every row and with the checks that open or shut its gate.
"""
