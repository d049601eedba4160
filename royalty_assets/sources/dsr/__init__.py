"""DDEX Digital Sales Reports (DSR) in their flat-file form.

``records`` says which cells a record has; ``reader`` reads a file. Profiles: Basic Audio, UGC and
Financial Reporting to Record Companies, in the block (MRBV) and single-record (SRBV) variants.
Source: DDEX DSR Parts 1 to 9, dsr.ddex.net. Exchanging such messages needs DDEX's free
implementation licence.
"""
