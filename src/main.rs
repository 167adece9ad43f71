//! `conun`: the open market for idle computing.

fn main() {}
