"""The one door between agents: dialling and accepting, for questions, reports and bodies."""
