"""What the business sees: operations, journeys, funnels, KPIs, alerts, and the catalogue of what they measure."""
