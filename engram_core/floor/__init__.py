"""Pure rules nobody may override: who may read, what enters, what is legal, what fits. No storage, no clock."""
