"""Pure judgement: words, dates and, later, attribution. It reads text and numbers and touches nothing."""
