//! The store against a plain map: random steps of everything that can be done to it.
