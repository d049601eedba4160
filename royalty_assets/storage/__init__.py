"""Where data rests: the lake (immutable Parquet objects) and the registry (SQL, the truth)."""
