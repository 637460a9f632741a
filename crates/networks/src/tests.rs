//! Whole decisions over a memory store.
