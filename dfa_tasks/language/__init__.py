"""Language modelling: Transformers on Tiny Shakespeare and WikiText."""
