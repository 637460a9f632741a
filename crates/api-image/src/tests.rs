//! The router as clients meet it, over the memory store and a directory of its own.
