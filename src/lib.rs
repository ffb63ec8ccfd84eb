//! Page aliasing for Linux.
