//! How nodes behave towards each other, one file per behaviour.

mod a_cluster_of_a_hundred_converges;
mod a_failed_node_is_noticed_and_comes_back;
mod a_leaving_node_is_not_called_failed;
mod a_name_belongs_to_one_node;
mod a_node_answers_queries;
mod a_node_that_slept_judges_nobody;
mod a_query_reaches_nearly_everybody;
mod a_state_is_taken_or_refused;
mod an_event_arrives_once;
mod an_idle_node_is_quiet;
mod an_intent_is_announced_once;
mod any_time_and_any_setting_is_lived_through;
mod equal_seeds_make_equal_runs;
mod garbage_has_no_effect;
mod lab;
