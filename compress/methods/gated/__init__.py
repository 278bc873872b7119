"""Methods that learn a gate per channel: KDFS and ABP."""
