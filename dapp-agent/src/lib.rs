//! conun-agent
