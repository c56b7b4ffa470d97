//! mcp-memory
