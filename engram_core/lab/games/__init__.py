"""Games: environments in which memory decides. Recorded ones need no game package; live ones need the extra `games`."""
