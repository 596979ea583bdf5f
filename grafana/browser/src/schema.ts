// Grafana's dashboard schema for JSON: enumeration values are plain strings.
import { AnnotationQuery, Dashboard } from '@grafana/schema';

type Plain<T> = T extends string
  ? `${T}`
  : T extends Array<infer U>
    ? Array<Plain<U>>
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

// Annotations of a Prometheus data source have their query beside the common fields.
type Annotation = Plain<AnnotationQuery> & { expr: string };

export type Importable = Plain<Omit<Dashboard, 'annotations'>> & { annotations: { list: Annotation[] } };
