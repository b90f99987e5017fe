"""What takes minutes rather than seconds to show that nothing is lost: ``make faults`` runs all of it."""
