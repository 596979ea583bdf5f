// Grafana's schema of a dashboard as JSON has it: the values of enumerations as plain text.
import { AnnotationQuery, Dashboard } from '@grafana/schema';

type Plain<T> = T extends string
  ? `${T}`
  : T extends Array<infer U>
    ? Array<Plain<U>>
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

// Prometheus' annotations have their query beside the common fields.
type Annotation = Plain<AnnotationQuery> & { expr: string };

export type Importable = Plain<Omit<Dashboard, 'annotations'>> & { annotations: { list: Annotation[] } };
