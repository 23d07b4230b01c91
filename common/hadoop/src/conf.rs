//! The site files (being written).
