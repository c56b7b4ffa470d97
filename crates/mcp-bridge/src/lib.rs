//! mcp-bridge
