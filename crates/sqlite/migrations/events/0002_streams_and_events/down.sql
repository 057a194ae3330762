DROP TABLE domain_event;
DROP TABLE event_stream;
