-- Where the spans of a job belong: the header `traceparent` of the W3C.
ALTER TABLE jobs ADD COLUMN traceparent TEXT;
