//! How long it takes to see an end, and what it costs when nothing happens.
