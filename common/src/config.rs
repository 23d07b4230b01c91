//! Configuration: the table of options, the values as written, the values as checked.
