//! HDFS (being written).
