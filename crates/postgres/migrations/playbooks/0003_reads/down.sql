DROP FUNCTION playbook_store.found(text, text[], text[]);
DROP FUNCTION playbook_store.nearest;
DROP FUNCTION playbook_store.scan(text, jsonb, text, bigint, boolean);
DROP FUNCTION playbook_store.list(text, jsonb, text, text, bigint);
DROP FUNCTION playbook_store.ask_labels(jsonb);
DROP FUNCTION playbook_store.is_known(text, text);
DROP FUNCTION playbook_store.versions(text, text, text, bigint);
DROP FUNCTION playbook_store.get(text, text, text, text);
