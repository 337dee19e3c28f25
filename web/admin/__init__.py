"""The admin: what the operating company's people see of every organization, and the little they change."""
