//! Tests of one node.
