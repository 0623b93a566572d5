//! Nothing: what the packages carry is wanted.
