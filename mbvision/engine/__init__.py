"""The Lightning side: modules, loaders, schedules, callbacks."""
