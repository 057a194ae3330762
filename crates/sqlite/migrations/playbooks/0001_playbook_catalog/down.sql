DROP TABLE playbook_catalog_stamp;
DROP TABLE playbook_catalog;
