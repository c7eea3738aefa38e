//! What a node measures: names and numbers for telemetry (agent.md 16).
