//! mcp-git
