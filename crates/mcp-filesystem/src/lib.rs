//! mcp-filesystem
