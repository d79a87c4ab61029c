-- Outcomes that nobody noted as carried out are few among many, and looked for.
CREATE INDEX ON tq_outcomes (task_id, generation, attempt) WHERE NOT carried;
